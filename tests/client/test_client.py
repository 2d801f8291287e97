"""Every method asks what the table says, and reads what comes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import ProblemError
from sidecar.client import DEFAULT_SOCKET, READONLY_SOCKET, Client
from sidecar.config import ApiSection
from sidecar.errors import DaemonUnreachableError
from tests.client.fake_daemon import problem, serve
from tests.client.samples import (
    ALLOWED,
    ANSWERS,
    DIAGNOSIS,
    DOMAIN,
    FORECAST,
    GUEST,
    HOST,
    SENT,
    answer_always,
    answer_well,
)

# What is called, what is asked, with which body, and what the answer is.
CALLS: list[tuple[Callable[[Client], Any], str, Any]] = [
    (lambda c: c.host(), "GET /v1/host", None),
    (lambda c: c.list(), "GET /v1/domains", None),
    (lambda c: c.show("vm1"), "GET /v1/domains/vm1", None),
    (lambda c: c.guest("vm1"), "GET /v1/domains/vm1/guest", None),
    (lambda c: c.messages("vm1"), "GET /v1/domains/vm1/messages", None),
    (lambda c: c.messages("vm1", "c"), "GET /v1/domains/vm1/messages?channel=c", None),
    (lambda c: c.can_send("vm1", "lock-screen"), "GET /v1/domains/vm1/messages/lock-screen", None),
    (lambda c: c.send("vm1", "guest-ping"), "POST /v1/domains/vm1/messages/guest-ping", {"timeout": 10.0}),
    (
        lambda c: c.send("vm1", "guest-ping", {"a": [1]}, 3, "c"),
        "POST /v1/domains/vm1/messages/guest-ping",
        {"arguments": {"a": [1]}, "timeout": 3, "channel": "c"},
    ),
    (lambda c: c.renegotiate("vm1"), "POST /v1/domains/vm1/renegotiate", {}),
    (lambda c: c.renegotiate("vm1", "c"), "POST /v1/domains/vm1/renegotiate", {"channel": "c"}),
    (lambda c: c.wait("vm1"), "GET /v1/domains/vm1/wait?for=agreed&timeout=60.0", None),
    (lambda c: c.wait("vm1", "lost", 5.0, "c"), "GET /v1/domains/vm1/wait?for=lost&timeout=5.0&channel=c", None),
    (lambda c: c.preflight("vm1", HOST), "POST /v1/domains/vm1/preflight", HOST),
    (lambda c: c.preflight_to("vm1", "gamma"), "GET /v1/domains/vm1/preflight/gamma?timeout=5.0", None),
    (lambda c: c.summary(), "GET /v1/summary", None),
    (lambda c: c.fleet(), "GET /v1/fleet?timeout=5.0", None),
    (lambda c: c.fleet_forget("gamma"), "POST /v1/fleet/gamma/forget", {}),
    (lambda c: c.fleet_preflight("beta"), "GET /v1/fleet/beta/preflight?timeout=5.0", None),
    (lambda c: c.doctor(), "GET /v1/doctor", None),
    (lambda c: c.doctor("vm1"), "GET /v1/domains/vm1/doctor", None),
]


def undo(view: Any) -> Any:
    """The document of a view, or of several."""
    return json.loads(json.dumps([asdict(one) for one in view] if isinstance(view, tuple) else asdict(view)))


def complete(document: Any) -> Any:
    """An older daemon's document with what its views have besides."""
    if isinstance(document, dict) and "aliases" in document:
        dialects = {name: {"supported": None, **offer} for name, offer in document["dialects"].items()}
        return document | {"dialects": dialects}
    return document


def test_each_method_asks_and_reads(socket_path: Path, client: Client) -> None:
    with serve(socket_path, answer_well) as daemon:
        for call, line, body in CALLS:
            assert undo(call(client)) == complete(ANSWERS[line])
            asked = daemon.calls[-1]
            # The order of a query has no meaning.
            assert (asked.method, *asked.target.partition("?")[::2]) == (
                line.split(" ")[0],
                *line.split(" ")[1].partition("?")[::2],
            )
            assert (json.loads(asked.body) if asked.body else None) == body
        assert client.can_send_version("1.1") is True
        assert daemon.connections == 1


def test_no_operation_is_forgotten() -> None:
    assert all(callable(getattr(Client, name)) for name in OPERATIONS)


def test_what_a_newer_daemon_adds_is_ignored_and_still_in_the_document(socket_path: Path, client: Client) -> None:
    newer = DOMAIN | {"mood": "good", "channels": [DOMAIN["channels"][0] | {"colour": "red"}]}
    with serve(socket_path, answer_always(newer, version="1.9")):
        view = client.show("vm1")
        assert (view.name, view.channels[0].version) == ("vm1", "3")
        assert client.documents.request("show", domain="vm1") == newer


@pytest.mark.parametrize("name", ["a b/c?d#e%&=ü", "..", "../host", "\udcff", "新"])
def test_any_name_stays_one_part_of_the_path(socket_path: Path, client: Client, name: str) -> None:
    with serve(socket_path, answer_always(GUEST)) as daemon:
        client.guest(name)
        client.documents.request("messages", domain="vm1", channel=name)
        targets = [call.target for call in daemon.calls]
    raw = name.encode("utf-8", "surrogatepass")
    assert [unquote_to_bytes(part) for part in targets[0].split("/")] == [b"", b"v1", b"domains", raw, b"guest"]
    path, _, query = targets[1].partition("?channel=")
    assert (path, unquote_to_bytes(query)) == ("/v1/domains/vm1/messages", raw)
    assert not set("&=?#/ ") & set(query.replace("/", ""))


def test_an_empty_name_asks_nothing(socket_path: Path, client: Client) -> None:
    with serve(socket_path, answer_well) as daemon:
        with pytest.raises(ProblemError, match="domain: missing or empty") as caught:
            client.guest("")
        assert caught.value.problem.code == "bad-request"
        assert not daemon.calls


@pytest.mark.parametrize("arguments", [{"a": float("nan")}, {"a": float("inf")}, {"a": object()}])
def test_arguments_that_are_no_json_ask_nothing(socket_path: Path, client: Client, arguments: Any) -> None:
    with serve(socket_path, answer_well) as daemon:
        with pytest.raises(ProblemError, match="no JSON"):
            client.send("vm1", "guest-ping", arguments)
        assert not daemon.calls


def test_a_problem_comes_with_its_details(socket_path: Path, client: Client) -> None:
    answer = problem("version-too-low", 409, "needs 3", required="3", agreed="1", self="x")
    with serve(socket_path, lambda call: answer), pytest.raises(ProblemError, match="needs 3") as caught:
        client.send("vm1", "hibernate")
    assert caught.value.problem.code == "version-too-low"
    assert caught.value.problem.extra == {"required": "3", "agreed": "1"}
    assert caught.value.problem.kind.exit_code == 1


def test_a_problem_that_nobody_knows_is_one(socket_path: Path, client: Client) -> None:
    with serve(socket_path, lambda call: problem("full-moon", 418)), pytest.raises(ProblemError) as caught:
        client.host()
    assert (caught.value.problem.code, caught.value.problem.kind.exit_code) == ("full-moon", 1)


@pytest.mark.parametrize("document", [[], 3, None, "x", {"channels": 3}, {"channels": [3]}])
def test_a_document_of_another_shape(socket_path: Path, client: Client, document: Any) -> None:
    with serve(socket_path, answer_always(document)):
        with pytest.raises(DaemonUnreachableError, match="another shape"):
            client.show("vm1")
        with pytest.raises(ProblemError, match="nobody knows") as caught:
            client.renegotiate("vm1")
        assert caught.value.problem.code == "bad-reply"


def test_a_list_that_is_none(socket_path: Path, client: Client) -> None:
    with serve(socket_path, answer_always(DOMAIN)), pytest.raises(DaemonUnreachableError, match="no list"):
        client.list()


def test_the_sockets_are_those_of_the_configuration() -> None:
    section = ApiSection()
    assert (section.socket, section.readonly_socket) == (DEFAULT_SOCKET, READONLY_SOCKET)


def test_imports_of_the_standard_library_alone() -> None:
    script = "import sys, sidecar.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "msgspec", "aiohttp", "libvirt", "logging", "threading"}
    ours = {name for name in loaded if name.startswith("sidecar.")}
    assert all(name.startswith(("sidecar.client", "sidecar.api")) or name == "sidecar.errors" for name in ours)


def test_reads_what_it_was_sent(socket_path: Path, client: Client) -> None:
    """The reply of an agent, whatever it is."""
    values: list[Any] = [None, [], {"a": {"b": [1.5, "\u202e"]}}, 2**70]
    for value in values:
        with serve(socket_path, answer_always(SENT | {"reply": value})):
            assert client.send("vm1", "guest-ping").reply == value
        socket_path.unlink()


def test_samples_have_every_key() -> None:
    """What the tests take for a daemon's answers is as complete as the views."""
    from sidecar.api.views import DoctorView, MessageView, PreflightView, read_view

    assert undo(read_view(MessageView, ALLOWED)) == ALLOWED
    assert undo(read_view(PreflightView, FORECAST)) == FORECAST
    assert undo(read_view(DoctorView, DIAGNOSIS)) == DIAGNOSIS
