"""REST, each exchange checked against the API's description by the client."""

import asyncio
import json
import threading
import time

import msgspec
import pytest

from sidecar.api.operations import OPERATIONS, Access, Operation
from sidecar.api.problems import PROBLEMS, ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from tests.bindings.fake_operations import ARGUMENTS, DOMAIN, SAMPLES
from tests.bindings.rest_client import Answer, RestClient, check_schema, rest_client
from tests.bindings.rig import METRICS, Rig

ANSWERED = [operation for operation in OPERATIONS.values() if not operation.streams]


async def ask(rest: RestClient, operation: Operation, path: str) -> Answer:
    """With a value for every argument."""
    address = path.format(**ARGUMENTS)
    others = [argument for argument in operation.arguments if f"{{{argument.name}}}" not in path]
    if operation.method == "GET":
        query = "&".join(f"{argument.name}={ARGUMENTS[argument.name]}" for argument in others)
        return await rest.get(address, query)
    if any(argument.is_body for argument in others):
        return await rest.post(address, ARGUMENTS[others[0].name])
    if not others:
        return await rest.post(address)
    return await rest.post(address, {argument.name: ARGUMENTS[argument.name] for argument in others})


@pytest.mark.parametrize(
    ("operation", "path"), [(operation, path) for operation in ANSWERED for path in operation.paths]
)
async def test_every_operation_gets_its_arguments_and_gives_its_view(
    rig: Rig, rest: RestClient, operation: Operation, path: str
) -> None:
    answer = await ask(rest, operation, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    if operation.name == "can_send_version":  # the bridge's own
        assert answer.document == {"version": "1.0", "served": str(API_VERSION), "allowed": True, "why": None}
        return
    assert answer.document == json.loads(msgspec.json.encode(SAMPLES[operation.name]))
    given = {argument.parameter: ARGUMENTS[argument.name] for argument in operation.arguments}
    assert rig.operations.calls == [(operation.name, given)]


@pytest.mark.parametrize("operation", ANSWERED, ids=lambda operation: str(operation.name))
async def test_the_readonly_socket_refuses_just_what_the_table_says(
    readonly_rest: RestClient, operation: Operation
) -> None:
    answer = await ask(readonly_rest, operation, operation.paths[0])
    assert answer.status == (200 if operation.access is Access.READ else 403)


@pytest.mark.parametrize(
    ("operation", "code"),
    [(operation, code) for operation in ANSWERED for code in operation.problems],
    ids=lambda item: str(getattr(item, "name", item)),
)
async def test_every_problem_is_a_document_with_its_status(
    rig: Rig, rest: RestClient, operation: Operation, code: str
) -> None:
    rig.operations.failure = ProblemError(code, 'it is "so" \x1b\ud800', reason="flapping")
    answer = await ask(rest, operation, operation.paths[0])
    assert answer.status == PROBLEMS[code].status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.document == {
        "type": f"urn:libvirt-sidecar:problem:{code}",
        "title": PROBLEMS[code].title,
        "status": PROBLEMS[code].status,
        "detail": 'it is "so" \x1b\ud800',
        "code": code,
        "reason": "flapping",
    }


async def test_a_fault_of_ours_says_nothing_of_its_inside(rig: Rig, rest: RestClient) -> None:
    rig.operations.failure = ZeroDivisionError("secret")
    answer = await rest.get("/v1/domains")
    assert (answer.status, answer.code) == (500, "internal")
    assert "secret" not in answer.body.decode()


async def test_a_view_that_cannot_be_rendered_is_a_fault_of_ours(rig: Rig, rest: RestClient) -> None:
    rig.operations.samples["show"] = object()
    assert (await rest.get("/v1/domains/vm1")).code == "internal"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/domains/a%2Fb", "a/b"),
        ("/v1/domains/%2e%2e", ".."),
        ("/v1/domains/..", ".."),
        ("/v1/domains/%25%32%46", "%2F"),
        ("/v1/domains/a+b%20c", "a+b c"),
        ("/v1/domains/%C3%BC%00%0A", "ü\x00\n"),
        ("/v1/domains/%F0%9F%98%80", "\U0001f600"),
        ("/v1/domains/a%3Fb%23c;d", "a?b#c;d"),
    ],
)
async def test_a_domain_may_have_any_name(rig: Rig, rest: RestClient, path: str, name: str) -> None:
    assert (await rest.get(path)).status == 200
    assert rig.operations.calls == [("show", {"domain": name})]


@pytest.mark.parametrize("path", ["/v1/domains/%FF", "/v1/domains/%ED%A0%80"])
async def test_what_is_no_utf8_is_no_name(rest: RestClient, path: str) -> None:
    assert (await rest.get(path)).code == "bad-request"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/host", "x=1"),
        ("/v1/host", "x"),
        ("/v1/host", "&"),
        ("/v1/domains/vm1", "domain=vm2"),
        ("/v1/domains/vm1/messages", "channel=a&channel=a"),
        ("/v1/domains/vm1/messages", "channel="),
        ("/v1/domains/vm1/messages", "channel=%FF"),
        ("/v1/domains/vm1/messages", "&".join(f"a{i}=1" for i in range(40))),
        ("/v1/domains/vm1/wait", "timeout=nan"),
        ("/v1/domains/vm1/wait", "timeout=inf"),
        ("/v1/domains/vm1/wait", "timeout=1e999"),
        ("/v1/domains/vm1/wait", "timeout=-1"),
        ("/v1/domains/vm1/wait", "timeout=1_0"),
        ("/v1/domains/vm1/wait", "timeout=%D9%A1"),
        ("/v1/domains/vm1/wait", "timeout=true"),
        ("/v1/domains/vm1/wait", "for=ever"),
        ("/v1/can-send-version", ""),
        ("/v1/can-send-version", "version=1"),
    ],
)
async def test_wrong_queries(rig: Rig, rest: RestClient, path: str, query: str) -> None:
    answer = await rest.get(path, query)
    assert (answer.status, answer.code) == (400, "bad-request")
    assert not rig.operations.calls


async def test_seconds_in_a_query_are_numbers(rig: Rig, rest: RestClient) -> None:
    await rest.get("/v1/domains/vm1/wait", "timeout=0.5e1&for=lost")
    assert rig.operations.calls == [("wait", {"domain": "vm1", "state": "lost", "timeout": 5.0, "channel": None})]


SEND = "/v1/domains/vm1/messages/guest-info"


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"nonsense",
        b"\xff",
        b'{"timeout": 1, "timeout": 2}',
        b'{"arguments": {"a": 1, "a": 2}}',
        b'{"arguments": {"a": NaN}}',
        b'{"arguments": {"a": 1e999}}',
        b'{"arguments": {"a": "\\ud800"}}',
        b'{"arguments": {"\\udfff": 1}}',
        b'{"arguments": ' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"[" * 100_000,
        b'{"arguments": {"a": ' + b"9" * 5000 + b"}}",
        b'{"arguments": [' + b"1," * 150_000 + b"1]}",
        b'{"timeout": "1"}',
        b'{"timeout": true}',
        b'{"domain": "vm2"}',
        b'{"unknown": 1}',
        b'"text"',
        b"  ",
        b"null",
    ],
)
async def test_wrong_bodies(rig: Rig, rest: RestClient, body: bytes) -> None:
    answer = await rest.ask("POST", SEND, body=body)
    assert (answer.status, answer.code) == (400, "bad-request")
    assert not rig.operations.calls


async def test_arguments_of_a_changing_operation_are_not_taken_from_a_query(rest: RestClient) -> None:
    assert (await rest.ask("POST", SEND, "timeout=1")).code == "bad-request"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"timeout": null}'])
async def test_nothing_in_a_body_is_no_arguments(rig: Rig, rest: RestClient, body: bytes) -> None:
    assert (await rest.ask("POST", SEND, body=body)).status == 200
    ((_, values),) = rig.operations.calls
    assert values == {"domain": "vm1", "message": "guest-info", "arguments": None, "timeout": 10.0, "channel": None}


async def test_a_body_that_is_an_argument_is_needed(rest: RestClient) -> None:
    assert (await rest.post("/v1/domains/vm1/preflight")).code == "bad-request"
    assert (await rest.post("/v1/domains/vm1/preflight", {})).status == 200


@pytest.mark.parametrize("body", [{"hostname": "beta"}, {"offer": {"hostname": "beta"}}])
async def test_a_body_that_is_an_argument_may_be_named_all_the_same(
    rig: Rig, rest: RestClient, body: dict[str, object]
) -> None:
    assert (await rest.post("/v1/domains/vm1/preflight", body)).status == 200
    ((_, values),) = rig.operations.calls
    assert values == {"domain": "vm1", "offer": {"hostname": "beta"}}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/domains/", "/v1/hosts", "/v1/domains/a/b", "//v1/host", "/v2/host"]
)
async def test_unknown_paths(rest: RestClient, path: str) -> None:
    answer = await rest.get(path)
    assert (answer.status, answer.code) == (404, "unknown-operation")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/host", "GET, HEAD"),
        ("DELETE", "/v1/domains/vm1", "GET, HEAD"),
        ("GET", "/v1/domains/vm1/renegotiate", "POST"),
        ("OPTIONS", SEND, "GET, HEAD, POST"),
        ("HEAD", "/v1/events", "GET"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PUT", "/v1/openapi.json", "GET, HEAD"),
    ],
)
async def test_wrong_methods(rest: RestClient, method: str, path: str, allow: str) -> None:
    answer = await rest.ask(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allow)


async def test_head_gives_the_header_alone(rest: RestClient) -> None:
    answer = await rest.ask("HEAD", "/v1/domains")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/domains", "/metrics", "/v1/openapi.json"])
async def test_web_pages_are_refused(rig: Rig, rest: RestClient, path: str, headers: dict[str, str]) -> None:
    answer = await rest.get(path, **headers)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert not rig.operations.calls


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_what_the_user_himself_asks_a_browser_for_is_served(rest: RestClient, site: str) -> None:
    assert (await rest.get("/v1/domains", Sec_Fetch_Site=site)).status == 200


@pytest.mark.parametrize(
    ("declared", "status", "code"),
    [
        ("1.0", 200, None),
        ("1.3", 200, None),
        ("1.4", 406, "unsupported-version"),
        ("2.0", 406, "unsupported-version"),
        ("1", 400, "bad-request"),
        ("1.02", 400, "bad-request"),
        ("", 400, "bad-request"),
    ],
)
async def test_declared_versions(rest: RestClient, declared: str, status: int, code: str | None) -> None:
    answer = await rest.get("/v1/domains", Sidecar_API_Version=declared)
    assert answer.status == status
    assert code is None or answer.code == code


async def test_an_operation_newer_than_what_is_declared(rest: RestClient) -> None:
    assert (await rest.get("/v1/domains/vm1/wait", Sidecar_API_Version="1.0")).code == "unsupported-version"


async def test_an_older_daemon_knows_no_newer_operation(rig: Rig) -> None:
    older = Rig(rig.full.parent / "older", version=ApiVersion(1, 0))
    async with older.running(), rest_client(older.full, older.version) as rest:
        assert (await rest.get("/v1/domains")).status == 200
        assert (await rest.get("/v1/domains/vm1/wait")).code == "unknown-operation"
        assert (await rest.get("/v1/events")).code == "unknown-operation"


async def test_metrics_and_description_are_on_both_sockets(rest: RestClient, readonly_rest: RestClient) -> None:
    for client in (rest, readonly_rest):
        metrics = await client.get("/metrics")
        assert (metrics.status, metrics.body) == (200, METRICS)
        assert (await client.get("/v1/openapi.json")).document["openapi"] == "3.1.0"


async def test_metrics_are_made_in_a_thread_one_at_a_time(rig: Rig, rest: RestClient) -> None:
    at_work: list[int] = []

    def render() -> bytes:
        at_work.append(threading.get_ident())
        others = len(at_work)
        time.sleep(0.01)
        assert len(at_work) == others
        at_work.clear()
        assert threading.current_thread() is not threading.main_thread()
        return METRICS

    rig.render_metrics = render
    answers = await asyncio.gather(*(rest.get("/metrics") for _ in range(10)))
    assert {answer.body for answer in answers} == {METRICS}


async def test_a_caller_that_goes_interrupts_what_it_asked(rig: Rig, rest: RestClient) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rig.operations.hold = hold
    asking = asyncio.create_task(rest.get("/v1/domains"))
    await begun.wait()
    asking.cancel()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_the_sample_is_what_the_description_says(rest: RestClient) -> None:
    """That the client checks at all: a view without one of its keys is found."""
    document = (await rest.get("/v1/domains/vm1")).document
    assert document["name"] == DOMAIN.name
    del document["run"]
    with pytest.raises(Exception, match="'run' is a required property"):
        check_schema(ApiVersion(1, 2), {"$ref": "#/components/schemas/DomainView"}, document)
