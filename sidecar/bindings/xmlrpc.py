"""XML-RPC at ``/RPC2``: a method for each operation, its arguments by position in the table's order.

nil is an argument that is not given, and in a result what is not there. A fault's code is the HTTP status of the
problem, its text begins with the problem's own code.

Source: docs/api.md; the XML-RPC specification, with the extensions ``nil`` and ``i8`` that everybody knows.
"""

import asyncio

from aiohttp import hdrs, web

from sidecar.api.operations import OPERATIONS, Kind, Operation
from sidecar.api.problems import Problem, ProblemCode, ProblemError
from sidecar.bindings.exchange import Exchange, make_response
from sidecar.bindings.xmlrpc_text import parse_call, render_fault, render_result
from sidecar.engine.bridge import Bridge

XMLRPC_PATH = "/RPC2"
XML_TYPE = "text/xml; charset=utf-8"

_TYPES = {Kind.TEXT: "string", Kind.SECONDS: "double", Kind.OBJECT: "struct"}


class XmlRpc:
    """Answers what is asked at ``XMLRPC_PATH``."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        # The standard library renders slowly, and arrivals have to be seen to meanwhile; one thread is enough.
        self._rendering = asyncio.Lock()
        self._operations = {
            name: operation for name, operation in OPERATIONS.items() if bridge.version.serves(operation.since)
        }

    async def answer(self, exchange: Exchange) -> web.Response:
        """The answer to one call; problems are faults in it."""
        if exchange.request.method != hdrs.METH_POST:
            response = self._answer_fault(Problem(ProblemCode.BAD_REQUEST, f"{XMLRPC_PATH} takes POST alone"), 405)
            response.headers[hdrs.ALLOW] = hdrs.METH_POST
            return response
        try:
            result = await self._call(exchange)
            async with self._rendering:
                text = await asyncio.to_thread(render_result, result)
        except ProblemError as error:
            response = self._answer_fault(error.problem)
            if error.problem.code in (ProblemCode.TOO_LARGE, ProblemCode.TOO_SLOW):
                response.force_close()
            return response
        return make_response(text, XML_TYPE, self._bridge.version)

    def _answer_fault(self, problem: Problem, status: int = 200) -> web.Response:
        text = render_fault(problem.kind.status, f"{problem.code}: {problem.detail}")
        return make_response(text, XML_TYPE, self._bridge.version, status)

    async def _call(self, exchange: Exchange) -> object:
        caller = exchange.caller
        name, values = parse_call(await exchange.read_body())
        if name.startswith("system."):
            return self._describe(name, values)
        operation = self._operations.get(name)
        arguments = {} if operation is None else _name_arguments(operation, values)
        return await self._bridge.call(name, arguments, caller)

    # What the methods are.

    def _describe(self, name: str, values: tuple[object, ...]) -> object:
        match name, values:
            case "system.listMethods", ():
                return [*self._operations, *_SYSTEM_METHODS]
            case "system.methodHelp", (str(method),):
                return _SYSTEM_METHODS.get(method) or self._find(method).why
            case "system.methodSignature", (str(method),):
                return _SYSTEM_SIGNATURES.get(method) or _list_signatures(self._find(method))
        if name in _SYSTEM_METHODS:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"{name} has other parameters")
        raise ProblemError(ProblemCode.UNKNOWN_OPERATION, f"no method {name[:64]!a}")

    def _find(self, method: str) -> Operation:
        operation = self._operations.get(method)
        if operation is None:
            raise ProblemError(ProblemCode.UNKNOWN_OPERATION, f"no method {method[:64]!a}")
        return operation


_SYSTEM_METHODS = {
    "system.listMethods": "the names of all methods",
    "system.methodHelp": "what a method is for",
    "system.methodSignature": "for each number of parameters that a method takes: its result's type, and theirs",
}
_SYSTEM_SIGNATURES = {
    "system.listMethods": [["array"]],
    "system.methodHelp": [["string", "string"]],
    "system.methodSignature": [["array", "string"]],
}


def _name_arguments(operation: Operation, values: tuple[object, ...]) -> dict[str, object]:
    if len(values) > len(operation.arguments):
        text = f"{operation.name} takes {len(operation.arguments)} parameters at most"
        raise ProblemError(ProblemCode.BAD_REQUEST, text)
    return {argument.name: value for argument, value in zip(operation.arguments, values, strict=False)}


def _list_signatures(operation: Operation) -> list[list[str]]:
    types = [_TYPES[argument.kind] for argument in operation.arguments]
    needed = sum(argument.required for argument in operation.arguments)
    result = "array" if operation.many else "struct"
    return [[result, *types[:count]] for count in range(needed, len(types) + 1)]
