"""XML-RPC with the standard library's client, and with raw bytes."""

import xmlrpc.client
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS, Operation
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.api.views import SentView
from tests.bindings.fake_operations import ARGUMENTS
from tests.bindings.rig import Rig, connected, get, post
from tests.bindings.xmlrpc_rig import call, call_fault

CALL = "<methodCall><methodName>{}</methodName><params>{}</params></methodCall>"


async def ask_raw(rig: Rig, body: bytes | str, *headers: str) -> tuple[int, str]:
    """The fault's code and text."""
    data = body.encode() if isinstance(body, str) else body
    async with connected(rig.full) as client:
        await client.send(post("/RPC2", data, *headers))
        status, answered, content = await client.read_answer()
    assert status == 200
    assert answered["content-type"] == "text/xml; charset=utf-8"
    assert answered["sidecar-api-version"] == str(API_VERSION)
    try:
        xmlrpc.client.loads(content)
    except xmlrpc.client.Fault as fault:
        return fault.faultCode, fault.faultString
    raise AssertionError(content)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: str(operation.name))
async def test_positions_are_those_of_the_table(rig: Rig, operation: Operation) -> None:
    if operation.name == "can_send_version":  # the bridge's own
        assert (await call(rig.full, "can_send_version", "1.0"))["allowed"] is True
        return
    values = [ARGUMENTS[argument.name] for argument in operation.arguments]
    values = [
        {"path": "/etc"} if name == "arguments" else value
        for name, value in zip([argument.name for argument in operation.arguments], values, strict=True)
    ]
    await call(rig.full, operation.name, *values)
    names = [argument.parameter for argument in operation.arguments]
    assert rig.operations.calls == [(operation.name, dict(zip(names, values, strict=True)))]


async def test_nil_and_nothing_are_not_given(rig: Rig) -> None:
    for values in (("vm1", "m"), ("vm1", "m", None, None, None)):
        await call(rig.full, "send", *values)
        _, given = rig.operations.calls.pop()
        assert given == {"domain": "vm1", "message": "m", "arguments": None, "timeout": 10.0, "channel": None}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (None, None),
        (2**31, 2**31),
        (-(2**63), -(2**63)),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**31), -(2**31)),
        (1.5, 1.5),
        (float("nan"), None),
        (True, True),
        ("\x00\x1b[2J\ufffe", "\ufffd\ufffd[2J\ufffd"),
        ("a\r\nb\tc\rd  ", "a\r\nb\tc\rd  "),
        ("<&>]]>'\"\U0001f600\ud800", "<&>]]>'\"\U0001f600\ufffd"),
        ({"\x01<": [[], {}, ""]}, {"\ufffd<": [[], {}, ""]}),
    ],
)
async def test_values(rig: Rig, reply: Any, expected: Any) -> None:
    rig.operations.samples["send"] = SentView("m", "c", reply)
    assert (await call(rig.full, "send", "vm1", "m"))["reply"] == expected


async def test_the_smallest_type_that_fits(rig: Rig) -> None:
    rig.operations.samples["send"] = SentView("m", "c", [1, 2**40])
    async with connected(rig.full) as client:
        await client.send(post("/RPC2", xmlrpc.client.dumps(("vm", "m"), "send").encode()))
        _, _, content = await client.read_answer()
    assert b"<int>1</int>" in content
    assert b"<i8>1099511627776</i8>" in content


async def test_large_integers_as_arguments(rig: Rig) -> None:
    body = (
        "<param><value>vm</value></param><param><value><string>m</string></value></param>"
        "<param><value><struct><member><name>n</name><value><i8>1099511627776</i8></value></member></struct></value></param>"
    )
    async with connected(rig.full) as client:
        await client.send(post("/RPC2", CALL.format("send", body).encode()))
        await client.read_answer()
    assert rig.operations.calls[0][1]["arguments"] == {"n": 2**40}


async def test_faults_of_callers(rig: Rig) -> None:
    text = f"unknown-operation: no operation 'no_such' in version {API_VERSION}"
    assert await call_fault(rig.full, "no_such") == (404, text)
    for method, values in (
        ("show", ()),
        ("show", ("vm", "more")),
        ("show", (1,)),
        ("wait", ("vm", "lost", True)),
        ("wait", ("vm", "lost", "1")),
        ("send", ("vm", "m", {"when": xmlrpc.client.DateTime("20261121T07:31:38")})),
        ("send", ("vm", "m", {"data": b"x"})),
        ("preflight", ("vm",)),
    ):
        code, text = await call_fault(rig.full, method, *values)
        assert (code, text.split(":")[0]) == (400, "bad-request"), method
    assert not rig.operations.calls


async def test_the_readonly_socket_and_versions(rig: Rig) -> None:
    assert (await call_fault(rig.readonly, "renegotiate", "vm1"))[1].startswith("forbidden: ")
    assert (await call_fault(rig.full, "list", Sidecar_API_Version="2.0"))[0] == 406
    assert (await call_fault(rig.full, "wait", "vm", Sidecar_API_Version="1.0"))[0] == 406
    assert (await call_fault(rig.full, "list", Sidecar_API_Version="x"))[0] == 400
    assert len(await call(rig.readonly, "list", Sidecar_API_Version="1.0")) == 2


async def test_web_pages_are_refused(rig: Rig) -> None:
    with pytest.raises(xmlrpc.client.ProtocolError) as caught:
        await call(rig.full, "list", Origin="http://localhost")
    assert caught.value.errcode == 403


LAUGHS = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "<methodCall>",
        "<methodCall></methodCall>",
        "<methodResponse><params/></methodResponse>",
        "<methodResponse><fault><value><struct/></value></fault></methodResponse>",
        LAUGHS + CALL.format("&b;", ""),
        "<!DOCTYPE x SYSTEM 'file:///etc/passwd'>" + CALL.format("list", ""),
        CALL.format("&nbsp;", ""),
        CALL.format("list", "<param><value><int>1</int></param>"),
        CALL.format("show", "<param><value><int>x</int></value></param>"),
        CALL.format("show", "<param><value><int>" + "9" * 5000 + "</int></value></param>"),
        CALL.format("show", "<param><value><double>nan</double></value></param>"),
        CALL.format("show", "<param><value><boolean>7</boolean></value></param>"),
        CALL.format("show", "<param><value><bigdecimal>1..</bigdecimal></value></param>"),
        CALL.format("show", "<param><value><base64>!</base64></value></param>"),
        CALL.format("show", "<param><value><dateTime.iso8601>never</dateTime.iso8601></value></param>"),
        CALL.format("show", "<param><value><unknown/></value></param>"),
        CALL.format("show", "</param>"),
        CALL.format("show", "<param><value><struct><member><value/></member></struct></value></param>"),
        CALL.format("show", "<param>" + "<value><array><data>" * 5000 + "</data></array></value>" * 5000 + "</param>"),
        CALL.format("show", "<value><struct><value><array/></value><value/></struct></value>"),
        b'<?xml version="1.0" encoding="no-such"?><methodCall/>',
        b'<?xml version="1.0" encoding="utf-7"?><methodCall/>',
        b"\xff\xfe<\x00",
        b"\x00" * 1000,
        "<a>" * 50_000,
    ],
    ids=range(27),
)
async def test_what_is_no_call(rig: Rig, body: bytes | str) -> None:
    code, text = await ask_raw(rig, body)
    assert (code, text.split(":")[0]) == (400, "bad-request")
    assert not rig.operations.calls


async def test_a_call_in_another_encoding(rig: Rig) -> None:
    text = '<?xml version="1.0" encoding="iso-8859-1"?>' + CALL.format("show", "<param><value>ü</value></param>")
    async with connected(rig.full) as client:
        await client.send(post("/RPC2", text.encode("iso-8859-1")))
        await client.read_answer()
    assert rig.operations.calls == [("show", {"domain": "ü"})]


async def test_bodies_have_the_same_limits(rig: Rig) -> None:
    assert (await ask_raw(rig, b" " * 1_100_000))[1].startswith("too-large: ")


async def test_other_methods_of_http(rig: Rig) -> None:
    async with connected(rig.full) as client:
        await client.send(get("/RPC2"))
        status, headers, content = await client.read_answer()
    assert (status, headers["allow"]) == (405, "POST")
    with pytest.raises(xmlrpc.client.Fault, match="bad-request: /RPC2 takes POST alone"):
        xmlrpc.client.loads(content)


async def test_says_which_methods_there_are(rig: Rig) -> None:
    names = await call(rig.readonly, "system.listMethods")
    assert names == [*OPERATIONS, "system.listMethods", "system.methodHelp", "system.methodSignature"]
    for name in names:
        assert await call(rig.readonly, "system.methodHelp", name)
        assert await call(rig.readonly, "system.methodSignature", name)
    assert await call(rig.readonly, "system.methodHelp", "show") == OPERATIONS["show"].why
    assert await call(rig.readonly, "system.methodSignature", "list") == [["array"]]
    assert await call(rig.readonly, "system.methodSignature", "preflight") == [["struct", "string", "struct"]]
    assert await call(rig.readonly, "system.methodSignature", "wait") == [
        ["struct", *["string", "string", "double", "string"][:count]] for count in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("method", "values", "code"),
    [
        ("system.listMethods", ("x",), "bad-request"),
        ("system.methodHelp", (), "bad-request"),
        ("system.methodHelp", (1,), "bad-request"),
        ("system.methodHelp", ("none",), "unknown-operation"),
        ("system.methodSignature", ("none",), "unknown-operation"),
        ("system.multicall", ([],), "unknown-operation"),
    ],
)
async def test_wrong_questions_about_methods(rig: Rig, method: str, values: tuple[Any, ...], code: str) -> None:
    assert (await call_fault(rig.full, method, *values))[1].startswith(f"{code}: ")


async def test_an_older_daemon_lists_what_it_serves(rig: Rig) -> None:
    older = Rig(rig.full.parent / "older", version=ApiVersion(1, 0))
    async with older.running():
        names = await call(older.full, "system.listMethods")
        assert "send" in names
        assert "wait" not in names
        assert (await call_fault(older.full, "wait", "vm"))[1].startswith("unknown-operation: ")
        assert (await call_fault(older.full, "system.methodHelp", "wait"))[1].startswith("unknown-operation: ")
