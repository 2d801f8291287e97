"""Who may ask what, in which version and with which arguments; what is logged of it; and every problem's code."""

import logging
from dataclasses import asdict
from typing import Any

import pytest

from sidecar.api.operations import OPERATIONS, Access
from sidecar.api.problems import PROBLEMS, ProblemCode
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.engine.bridge import Bridge, Caller
from sidecar.engine.operations import Operations
from sidecar.engine.problems import describe_error
from sidecar.errors import (
    AgentLeftError,
    AgentPoisonedError,
    BadReplyError,
    BusDownError,
    CommandFailedError,
    DomainGoneError,
    HostSilentError,
    HostUnknownError,
    HypervisorDownError,
    HypervisorError,
    JobHeldError,
    MessageNotAllowedError,
    OutcomeUnknownError,
    Refusal,
    RefusalCode,
    SidecarError,
)
from tests.engine.lone_bridge import ANYBODY, OFFER, ROOT, ask, examine, gamma_bus, make_bridge, make_fleet, refused
from tests.engine.lone_host import LoneHost
from tests.engine.lone_talk import talking
from tests.fakes.fleet_bus import FakeFleetBus

pytestmark = pytest.mark.looptime

THERE = {"dialects": {"ovirt": {"maximum": 3}, "qga": {"maximum": "7.2"}}}
# Good arguments for each operation.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "host": {},
    "can_send_version": {"version": "1.0"},
    "list": {},
    "show": {"domain": "vm1"},
    "guest": {"domain": "vm1"},
    "messages": {"domain": "vm1"},
    "can_send": {"domain": "vm1", "message": "echo"},
    "send": {"domain": "vm1", "message": "lock-screen"},
    "renegotiate": {"domain": "vm1"},
    "wait": {"domain": "vm1"},
    "events": {},
    "preflight": {"domain": "vm1", "offer": THERE},
    "doctor": {},
    "summary": {},
    "preflight_to": {"domain": "vm1", "host": "alpha"},
    "fleet": {},
    "fleet_forget": {"host": "alpha"},
    "fleet_preflight": {"host": "beta"},
}
SECRET = (
    "guest",
    "send",
    "renegotiate",
    "preflight",
    "doctor",
    "preflight_to",
    "fleet",
    "fleet_forget",
    "fleet_preflight",
)
ALPHA = {**asdict(OFFER), "hostname": "alpha", "host_uuid": "5c0f0000-0000-4000-8000-00000000000a"}
WRONG_VALUES: list[object] = [True, 1, "", "x" * 1025, [], 1.5]


def make_member(host: LoneHost, version: ApiVersion = API_VERSION) -> Bridge:
    """Of a host in a fleet with alpha."""
    bus = FakeFleetBus()
    bus.summaries["alpha"] = {"host": ALPHA, "guests": 0, "oldest": {}}
    bus.results["alpha", "host"] = ALPHA
    fleet = make_fleet(host, bus)
    fleet.receive_offer(ALPHA)
    return make_bridge(host, version, fleet=fleet)


def test_every_operation_is_tried_here() -> None:
    assert set(ARGUMENTS) == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_operation_gives_what_its_row_says(name: str) -> None:
    async with talking() as talk:
        result = await ask(make_member(talk.host), name, **ARGUMENTS[name])
        operation = OPERATIONS[name]
        views = result if operation.many else (result,)
        assert isinstance(views, tuple)
        assert all(isinstance(view, operation.result) for view in views)


class TestAccess:
    @pytest.mark.parametrize("name", OPERATIONS)
    async def test_who_may_read_may_do_what_changes_nothing_and_tells_no_secret(self, name: str) -> None:
        async with talking() as talk:
            bridge = make_member(talk.host)
            if name in SECRET:
                assert await refused(bridge, name, ANYBODY, **ARGUMENTS[name]) == "forbidden"
            else:
                await ask(bridge, name, ANYBODY, **ARGUMENTS[name])

    def test_nothing_that_changes_is_open_to_everybody(self) -> None:
        assert all(not operation.changes or operation.access is Access.FULL for operation in OPERATIONS.values())

    async def test_access_is_judged_before_the_arguments_are_looked_at(self) -> None:
        async with talking() as talk:
            assert await refused(make_bridge(talk.host), "send", ANYBODY, nonsense=1) == "forbidden"

    async def test_following_is_judged_alike(self) -> None:
        async with talking() as talk:
            bridge = make_bridge(talk.host, ApiVersion(1, 0))
            with pytest.raises(SidecarError) as error:
                bridge.follow({}, ROOT)
            assert describe_error(error.value).problem.code == "unknown-operation"


class TestVersions:
    @pytest.mark.parametrize("name", OPERATIONS)
    @pytest.mark.parametrize("served", [ApiVersion(1, 0), ApiVersion(1, 1), ApiVersion(1, 2), ApiVersion(1, 10)])
    async def test_a_daemon_of_an_older_minor_has_what_came_by_then(self, name: str, served: ApiVersion) -> None:
        async with talking() as talk:
            bridge = make_member(talk.host, served)
            if served.minor >= OPERATIONS[name].since.minor:
                await ask(bridge, name, **ARGUMENTS[name])
            else:
                assert await refused(bridge, name, **ARGUMENTS[name]) == "unknown-operation"

    @pytest.mark.parametrize(
        ("declared", "code"),
        [
            (ApiVersion(1, 1), None),
            (API_VERSION, None),
            (ApiVersion(1, 0), "unsupported-version"),
            (ApiVersion(1, API_VERSION.minor + 1), "unsupported-version"),
            (ApiVersion(0, 9), "unsupported-version"),
            (ApiVersion(2, 0), "unsupported-version"),
        ],
    )
    async def test_what_a_caller_declares(self, declared: ApiVersion, code: str | None) -> None:
        async with talking() as talk:
            caller = Caller(0, 1, Access.FULL, declared)
            if code is None:
                await ask(make_bridge(talk.host), "wait", caller, domain="vm1")
            else:
                assert await refused(make_bridge(talk.host), "wait", caller, domain="vm1") == code

    @pytest.mark.parametrize(
        ("version", "allowed"), [("1.0", True), ("1.3", True), ("1.4", False), ("1.10", False), ("2.0", False)]
    )
    async def test_a_caller_can_ask_before(self, version: str, allowed: bool) -> None:
        async with talking() as talk:
            view = await ask(make_bridge(talk.host), "can_send_version", ANYBODY, version=version)
            assert (view.allowed, view.version, view.served) == (allowed, version, str(API_VERSION))
            assert (view.why is None) == allowed

    @pytest.mark.parametrize("text", ["1", "1.", "01.2", "1.2.3", "x", "-1.0", "1.\u0663", " 1.0", "1.9999999"])
    async def test_what_is_no_version(self, text: str) -> None:
        async with talking() as talk:
            assert await refused(make_bridge(talk.host), "can_send_version", version=text) == "bad-request"


class TestArguments:
    @pytest.mark.parametrize("name", OPERATIONS)
    async def test_an_argument_that_the_row_does_not_have(self, name: str) -> None:
        async with talking() as talk:
            assert await refused(make_bridge(talk.host), name, **ARGUMENTS[name], extra="\x1b[2J") == "bad-request"

    @pytest.mark.parametrize(
        ("name", "argument"), [(name, a.name) for name, row in OPERATIONS.items() for a in row.arguments]
    )
    async def test_an_argument_of_another_kind(self, name: str, argument: str) -> None:
        row = OPERATIONS[name].argument(argument)
        assert row is not None
        wrong: dict[str, list[object]] = {
            "string": [True, 1, "", "x" * 1025, [], {}],
            "number": [True, "1", -1, 3601, float("nan"), float("inf"), []],
            "object": [[], "x", 1, True],
        }
        async with talking() as talk:
            for value in wrong[row.kind.value]:
                given = {**ARGUMENTS[name], argument: value}
                assert await refused(make_bridge(talk.host), name, **given) == "bad-request", value

    @pytest.mark.parametrize(
        ("name", "argument"),
        [(name, a.name) for name, row in OPERATIONS.items() for a in row.arguments if a.required],
    )
    async def test_an_argument_that_is_missing(self, name: str, argument: str) -> None:
        async with talking() as talk:
            for given in (
                {**ARGUMENTS[name], argument: None},
                {k: v for k, v in ARGUMENTS[name].items() if k != argument},
            ):
                assert await refused(make_bridge(talk.host), name, **given) == "bad-request"

    async def test_a_state_that_nobody_can_wait_for(self) -> None:
        async with talking() as talk:
            assert await refused(make_bridge(talk.host), "wait", domain="vm1", for_="happy") == "bad-request"


class TestLog:
    async def test_who_asked_for_a_change_stands_in_the_log_and_with_what_does_not(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        async with talking() as talk:
            secret = {"username": "root", "password": "hunter2"}
            await ask(make_bridge(talk.host), "send", domain="vm1", message="login", arguments=secret)
            lines = [record.getMessage() for record in caplog.records]
            assert "send login vm1 for uid 0, pid 4711: done" in lines
            assert not any("hunter2" in line for line in lines)

    async def test_one_that_was_refused_stands_there_with_its_code(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with talking() as talk:
            given: dict[str, Any] = {"domain": "vm1", "message": "evil\n\x1b[31m", "arguments": {"key": "hunter2"}}
            assert await refused(make_bridge(talk.host), "send", **given) == "not-in-table"
            line = caplog.records[-1].getMessage()
            assert line == r"send evil\n\x1b[31m vm1 for uid 0, pid 4711: not-in-table"

    async def test_reading_is_nothing_to_be_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        async with talking() as talk:
            caplog.set_level(logging.INFO)
            caplog.clear()
            for name in ("host", "list", "show", "messages", "can_send", "wait"):
                await ask(make_bridge(talk.host), name, **ARGUMENTS[name])
            assert not [record for record in caplog.records if "uid" in record.getMessage()]


class TestProblems:
    def test_every_code_has_its_meaning(self) -> None:
        assert set(PROBLEMS) == {*ProblemCode, *RefusalCode}
        assert all(kind.exit_code in (1, 2, 3, 4) and 400 <= kind.status <= 504 for kind in PROBLEMS.values())

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (CommandFailedError("no"), "command-failed"),
            (AgentPoisonedError("x"), "not-sent"),
            (BadReplyError("x"), "bad-reply"),
            (AgentLeftError("x"), "no-answer"),
            (DomainGoneError("x"), "domain-not-found"),
            (JobHeldError("x"), "job-held"),
            (HypervisorDownError("x"), "libvirt-unavailable"),
            (OutcomeUnknownError("x"), "outcome-unknown"),
            (HypervisorError("x"), "libvirt-failed"),
            (BusDownError("x"), "bus-unavailable"),
            (HostUnknownError("x"), "host-not-found"),
            (HostSilentError("x"), "host-unreachable"),
            (MessageNotAllowedError(Refusal(RefusalCode.NOT_AGREED, "echo", "why")), "not-agreed"),
        ],
    )
    def test_the_kind_of_an_error_decides(self, error: SidecarError, code: str) -> None:
        assert describe_error(error).problem.code == code

    def test_what_nobody_knows_whether_it_ran_has_an_exit_code_of_its_own(self) -> None:
        unknown = {code for code, kind in PROBLEMS.items() if kind.exit_code == 4}
        assert unknown == {"no-answer", "bad-reply", "outcome-unknown"}

    def test_a_refusal_names_the_versions_that_decide(self) -> None:
        refusal = Refusal(RefusalCode.VERSION_TOO_LOW, "echo", "why", "4", "3", "flapping")
        document = describe_error(MessageNotAllowedError(refusal)).problem.document
        assert document == {
            "type": "urn:libvirt-sidecar:problem:version-too-low",
            "title": "The message may not be sent now",
            "status": 409,
            "detail": "echo: why",
            "code": "version-too-low",
            "required": "4",
            "agreed": "3",
            "reason": "flapping",
        }

    async def test_a_fault_of_ours_is_one_problem_and_the_daemon_goes_on(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with LoneHost().running() as host:

            def broken() -> None:
                raise ZeroDivisionError("hunter2")

            operations = Operations(host.engine, host.surroundings, broken, examine, make_fleet(host, gamma_bus()))
            assert await refused(Bridge(operations), "host") == "internal"
            assert "ZeroDivisionError" in caplog.text
            assert await ask(Bridge(operations), "list") == ()

    async def test_a_host_that_libvirt_has_not_named_yet(self) -> None:
        async with LoneHost().running() as host:
            operations = Operations(
                host.engine, host.surroundings, lambda: None, examine, make_fleet(host, gamma_bus())
            )
            assert await refused(Bridge(operations), "host") == "libvirt-unavailable"
            assert await ask(make_bridge(host), "host") == OFFER
