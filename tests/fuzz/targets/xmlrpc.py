"""Calls of XML-RPC: a name and JSON values come of them, or a problem; what is answered is XML, whatever it holds."""

import math
from xml.etree import ElementTree

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bindings.given_values import check_value
from sidecar.bindings.xmlrpc_text import parse_call, render_fault, render_result
from tests.fuzz.readings import check_line

WORDS = (
    b"<methodCall><methodName>show</methodName><params>",
    b"<param><value>",
    b"</value></param>",
    b"</params></methodCall>",
    b"<struct><member><name>a</name><value>",
    b"</value></member></struct>",
    b"<array><data><value>",
    b"</value></data></array>",
    b"<int>1</int>",
    b"<i8>9223372036854775807</i8>",
    b"<double>1e308</double>",
    b"<boolean>1</boolean>",
    b"<nil/>",
    b"<base64>AAAA</base64>",
    b"<dateTime.iso8601>20261121T07:31:38</dateTime.iso8601>",
    b"<bigdecimal>1</bigdecimal>",
    b"<fault>",
    b"&#13;",
)


def check(data: bytes) -> None:
    """The bytes as a call; its values, and the bytes themselves, as an answer."""
    text = data.decode("utf-8", "surrogateescape")
    check_answer(render_fault(400, text), text)
    try:
        name, values = parse_call(data)
    except ProblemError as error:
        check_problem(error)
        return
    assert isinstance(name, str)
    assert name
    check_value(list(values))
    check_answer(render_result(list(values)), None)
    check_answer(render_result({"given": list(values), "infinite": math.inf}), None)


def check_problem(error: ProblemError) -> None:
    """The client's fault, in one line."""
    assert error.problem.code is ProblemCode.BAD_REQUEST
    check_line(error.problem.detail)


def check_answer(answer: bytes, fault: str | None) -> None:
    """One document; a fault's text is in one place alone."""
    root = ElementTree.fromstring(answer)
    assert root.tag == "methodResponse"
    if fault is not None:
        assert [element.tag for element in root.iter("string")] == ["string"]
        assert len(root.findall("./fault/value/struct/member")) == 2
