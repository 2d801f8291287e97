"""XML-RPC's own text: calls read, results and faults written.

The standard library's reader of values is used, its parser is not: that one would expand entities. Its writer refuses
integers of more than 32 bits, so that ours is here, too.
"""

import math
from collections.abc import Mapping
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape
from xmlrpc.client import Error, Unmarshaller

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bindings.documents import make_document
from sidecar.bindings.given_values import check_value
from sidecar.protocol.guest_text import clean_text

_INT_LIMIT, _LONG_LIMIT = 1 << 31, 1 << 63

# What the standard library's reader raises when elements come in an order that makes no sense.
_NONSENSE = (Error, expat.ExpatError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def parse_call(text: bytes) -> tuple[str, tuple[Any, ...]]:
    """The method's name and the parameters, JSON values, of a call.

    Raises:
        ProblemError: It is no call, has a document type, or values that are none in JSON.
    """
    reader = Unmarshaller(use_builtin_types=True)
    reader.xml(None, None)  # type: ignore[arg-type]  # the parser has decoded everything
    try:
        _make_parser(reader).Parse(text, True)
        values, name = reader.close(), reader.getmethodname()
    except _NONSENSE as error:
        raise ProblemError(ProblemCode.BAD_REQUEST, "the body is no call of XML-RPC") from error
    if not name:
        raise ProblemError(ProblemCode.BAD_REQUEST, "the body is no call of XML-RPC: it names no method")
    check_value(list(values))
    return name, values


def _make_parser(reader: Unmarshaller) -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    return parser


def _refuse_document_type(*_: object) -> None:
    """Without one there are no entities but XML's own five."""
    raise ProblemError(ProblemCode.BAD_REQUEST, "a document type is not allowed here")


def render_result(result: object) -> bytes:
    """A response with a view, several views or events, or plain values."""
    return _render_response(f"<params><param>{_render(make_document(result))}</param></params>")


def render_fault(code: int, text: str) -> bytes:
    """A response with a fault."""
    return _render_response(f"<fault>{_render({'faultCode': code, 'faultString': text})}</fault>")


def _render_response(content: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<methodResponse>{content}</methodResponse>\n'.encode()


def _render(value: object) -> str:
    return f"<value>{_render_content(value)}</value>"


def _render_content(value: object) -> str:
    match value:
        case None:
            return "<nil/>"
        case bool():
            return f"<boolean>{value:d}</boolean>"
        case int():
            return _render_integer(value)
        case float():
            # What is no number is null in JSON.
            return f"<double>{value!r}</double>" if math.isfinite(value) else "<nil/>"
        case str():
            return f"<string>{_render_text(value)}</string>"
        case Mapping():
            members = (
                f"<member><name>{_render_text(key)}</name>{_render(item)}</member>" for key, item in value.items()
            )
            return f"<struct>{''.join(members)}</struct>"
        case list() | tuple():
            return f"<array><data>{''.join(map(_render, value))}</data></array>"
    raise TypeError(f"no value of XML-RPC: {type(value).__name__}")


def _render_integer(value: int) -> str:
    if -_INT_LIMIT <= value < _INT_LIMIT:
        return f"<int>{value}</int>"
    if -_LONG_LIMIT <= value < _LONG_LIMIT:
        return f"<i8>{value}</i8>"
    return f"<string>{value}</string>"


def _render_text(text: str) -> str:
    """What XML cannot hold is replaced; a lone carriage return would be read as a newline."""
    return escape(clean_text(text), {"\r": "&#13;"})
