"""The same operation by sidecarctl, REST, XML-RPC and the bus gives the same answer and problem, on a real host."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from sidecar.api.operations import OPERATIONS, Operation
from sidecar.client import DEFAULT_SOCKET
from tests.bindings.xmlrpc_rig import call, call_fault
from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec
from tests.lab.fleet import BusCaller, Fleet
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.sidecard import PROGRAMS

VM = "vm same"
OFFER = {"hostname": "gamma", "dialects": {"ovirt": {"maximum": 2}, "qga": {"maximum": "5.2"}}}
# What changes from one moment to the next.
VOLATILE = {"age_seconds", "received", "recorded", "id", "time", "last_seen"}


@dataclass(frozen=True)
class Case:
    """One question, in each of the four languages; ``code`` is the problem that it must end in."""

    operation: str
    arguments: dict[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    code: str | None = None
    stdin: str | None = None

    def __str__(self) -> str:
        return f"{self.operation}-{self.code or 'done'}"


D = {"domain": VM}
CASES = [
    Case("host", {}, ("host",)),
    Case("can_send_version", {"version": "1.0"}),
    Case("can_send_version", {"version": "1"}, code="bad-request"),
    Case("list", {}, ("list",)),
    Case("show", D, ("show", VM)),
    Case("show", {"domain": "nobody"}, ("show", "nobody"), "domain-not-found"),
    Case("guest", D, ("show", VM)),
    Case("messages", D, ("messages", VM)),
    Case("messages", {**D, "channel": QGA_PORT}, ("messages", VM, "--channel", QGA_PORT)),
    Case("messages", {**D, "channel": "x"}, ("messages", VM, "--channel", "x"), "channel-not-found"),
    Case("can_send", {**D, "message": "guest-ping"}, ("can-send", VM, "guest-ping")),
    Case("can_send", {**D, "message": "guest-get-load"}, ("can-send", VM, "guest-get-load")),
    Case("can_send", {**D, "message": "heartbeat"}, ("can-send", VM, "heartbeat"), "not-in-table"),
    Case("send", {**D, "message": "guest-get-timezone"}, ("send", VM, "guest-get-timezone", "--json")),
    Case("send", {**D, "message": "guest-get-load"}, ("send", VM, "guest-get-load"), "version-too-low"),
    Case("send", {**D, "message": "guest-sync"}, ("send", VM, "guest-sync"), "negotiation-only"),
    Case(
        "send",
        {**D, "message": "guest-file-open", "arguments": {"path": "/no/such"}},
        ("send", VM, "guest-file-open", "path=/no/such"),
        "command-failed",
    ),
    Case("send", {**D, "message": "echo", "channel": "x"}, ("send", VM, "echo", "--channel", "x"), "no-channel"),
    Case("wait", D, ("wait", VM)),
    Case(
        "wait", {**D, "for": "lost", "timeout": 0.5}, ("wait", VM, "--for", "lost", "--timeout", "0.5"), "not-in-time"
    ),
    Case("wait", {**D, "channel": "x"}, ("wait", VM, "--channel", "x"), "channel-not-found"),
    Case("preflight", {**D, "offer": OFFER}, ("preflight", VM, "--offer", "-"), stdin=json.dumps(OFFER)),
    Case("preflight", {**D, "offer": {}}, ("preflight", VM, "--offer", "-"), "bad-request", "{}"),
    Case("doctor", D, ("doctor", VM)),
    Case("doctor", {"domain": "nobody"}, ("doctor", "nobody"), "domain-not-found"),
    Case("renegotiate", D, ("renegotiate", VM, "--json")),
    Case("renegotiate", {**D, "channel": "x"}, ("renegotiate", VM, "--channel", "x"), "channel-not-found"),
    Case("events", {"after": "none", "domain": VM}),
    Case("summary"),
    Case("fleet", {"timeout": 2.0}, ("fleet",)),
    Case("fleet", {"timeout": -1.0}, code="bad-request"),
    Case("fleet_preflight", {"host": "alpha", "timeout": 2.0}),
    Case("fleet_preflight", {"host": "nowhere"}, ("fleet", "preflight", "nowhere"), "host-not-found"),
    Case("fleet_forget", {"host": "nowhere"}, ("fleet", "forget", "nowhere"), "host-not-found"),
    Case("preflight_to", {**D, "host": "alpha"}, ("preflight", VM, "--host", "alpha")),
    Case("preflight_to", {**D, "host": "nowhere"}, ("preflight", VM, "--host", "nowhere"), "host-not-found"),
]


def test_every_operation_is_tried_here() -> None:
    assert {case.operation for case in CASES} == set(OPERATIONS)


@pytest.fixture(scope="module")
def fleet_of_one(laboratory: Laboratory, alpha: Host) -> Iterator[Fleet]:
    """Alpha alone on the bus, where everything is served."""
    fleet = Fleet(laboratory.broker(), (alpha,))
    fleet.broker.clean()
    alpha.install_hook()
    fleet.start(alpha, admin=True)
    fleet.wait_joined()
    yield fleet
    alpha.clean()


@pytest.fixture(scope="module")
def host(fleet_of_one: Fleet) -> Host:
    return fleet_of_one.hosts[0]


@pytest.fixture(scope="module")
def caller(fleet_of_one: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusCaller]:
    caller = fleet_of_one.start_caller(tmp_path_factory.mktemp("caller"))
    yield caller
    caller.end()


@pytest.fixture(scope="module")
def guest(host: Host, boot_shared_guest: GuestFactory) -> Guest:
    agent = AgentSpec(era=OWN_AGENT, heartbeat_s=5.0)
    guest = boot_shared_guest(GuestSpec(name=VM, channels=(OVIRT_PORT, QGA_PORT), agent=agent))
    wait_agreed(guest, 4)
    wait_for_qga(guest, "agreed", "7.2")
    return guest


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_everywhere(host: Host, guest: Guest, caller: BusCaller, case: Case) -> None:
    operation = OPERATIONS[case.operation]
    rest = ask_rest(host, operation, case.arguments)
    values = [case.arguments.get(argument.name) for argument in operation.arguments]
    socket = host.path(DEFAULT_SOCKET)
    if case.code is None:
        remote = asyncio.run(call(socket, case.operation, *values))
        assert steady(remote) == steady(rest)
    else:
        assert rest["code"] == case.code
        assert asyncio.run(call_fault(socket, case.operation, *values)) == (
            rest["status"],
            f"{case.code}: {rest['detail']}",
        )
    by_bus = caller.call(host.name, operation, case.arguments)
    if case.code is None:
        assert steady(by_bus["result"]) == steady(rest)
    else:
        assert by_bus["problem"] == {key: rest[key] for key in rest if key not in ("type", "title", "status")}
    if case.command is not None:
        compare_command(host, case, rest)


def compare_command(host: Host, case: Case, rest: Any) -> None:
    assert case.command is not None
    argv = [str(PROGRAMS / "sidecarctl"), *case.command]
    argv += [] if "--json" in argv or case.operation == "renegotiate" else ["--json"]
    done = host.run(argv, check=False, stdin_text=case.stdin)
    if case.code is not None:
        assert (done.returncode, done.stdout) == (2 if case.code == "bad-request" else 1, "")
        assert done.stderr == f"sidecarctl: {rest['detail']} ({case.code})\n"
        return
    said = json.loads(done.stdout)
    if case.operation == "guest":
        said = said["guest"]
    elif case.operation == "show":
        assert said.pop("guest") is not None
    assert steady(said) == steady(rest)
    refused = case.operation == "preflight" or rest == {**rest, "allowed": False} if isinstance(rest, dict) else False
    assert done.returncode == (1 if refused else 0)


def ask_rest(host: Host, operation: Operation, arguments: dict[str, Any]) -> Any:
    """The document, whatever the status; of a stream the first two events in a list."""
    path = next(path for path in reversed(operation.paths) if set(re.findall(r"{(\w+)}", path)) <= set(arguments))
    beside = {name: value for name, value in arguments.items() if f"{{{name}}}" not in path}
    url = "http://localhost" + re.sub(r"{(\w+)}", lambda found: quote(arguments[found[1]], safe=""), path)
    # What has happened is there at once, and a stream has no end.
    time_s = "3" if operation.streams else "30"
    argv = ["curl", "--silent", "--max-time", time_s, "--unix-socket", DEFAULT_SOCKET]
    if operation.method == "POST":
        body = next((beside[a.name] for a in operation.arguments if a.is_body), beside)
        argv += ["--data", json.dumps(body)]
    elif beside:
        url += "?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in beside.items())
    if operation.streams:
        text = host.run(["bash", "-c", f"{' '.join(argv)} --no-buffer '{url}' | grep -m2 ^data:"]).stdout
        return [json.loads(line.removeprefix("data: ")) for line in text.splitlines()]
    return json.loads(host.run([*argv, url]).stdout)


def steady(document: Any) -> Any:
    """Without what changes from one moment to the next; of events the first two."""
    if isinstance(document, list):
        items = [steady(item) for item in document]
        return items[:2] if items and isinstance(items[0], dict) and items[0].get("what") == "missed" else items
    if isinstance(document, dict):
        facts = document.get("name") in ("heartbeat", "memory-stats")
        return {
            key: steady(value)
            for key, value in document.items()
            if key not in VOLATILE and not (facts and key == "value")
        }
    return document
