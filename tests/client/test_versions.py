"""Who is too old for what, and that nothing is sent then."""

from pathlib import Path

import pytest

from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import ProblemError
from sidecar.api.versions import API_VERSION, ApiVersion
from sidecar.client import Client
from sidecar.errors import VersionCapError
from tests.client.fake_daemon import Call, Reply, problem, reply, serve, stream
from tests.client.samples import DOMAIN, EVENT, HOST, SENT, answer_always, answer_well

OLD_HOST = HOST | {"bridge": "1.0"}


def answer_as_1_0(call: Call) -> Reply:
    """Judges the declared version before anything else."""
    if not ApiVersion(1, 0).serves(ApiVersion.parse(call.version or "1.0")):
        return problem("unsupported-version", 406, version="1.0")
    return reply(OLD_HOST, version="1.0")


def test_without_a_cap_each_request_declares_what_brought_it(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_well) as daemon:
        client.host()
        client.wait("vm1")
        client.doctor()
        assert [call.version for call in daemon.calls] == ["1.0", "1.1", "1.2"]


def test_an_older_daemon_that_is_known_is_asked_nothing_new(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_as_1_0) as daemon:
        assert client.host().bridge == "1.0"
        with pytest.raises(
            VersionCapError, match=r"^wait came with version 1\.1 of the API; the daemon .* serves 1\.0$"
        ):
            client.wait("vm1")
        assert daemon.lines == ["GET /v1/host"]
        assert client.host().hostname == "beta"


@pytest.mark.parametrize("code", ["unsupported-version", "unknown-operation"])
@pytest.mark.parametrize("version", ["1.0", None])
def test_an_older_daemon_that_is_not_known_refuses_in_the_same_words(
    client: Client, socket_path: Path, code: str, version: str | None
) -> None:
    answer = reply({"code": code, "detail": "d"}, 404, version)
    with serve(socket_path, lambda call: answer):
        with pytest.raises(VersionCapError, match=rf"serves {version or 'an older one'}$"):
            client.wait("vm1")
        with pytest.raises(VersionCapError, match=r"events came with version 1\.1"):
            client.events()


def test_a_path_that_is_unknown_to_a_daemon_as_new_as_we_is_not_its_age(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: problem("unknown-operation", 404)), pytest.raises(ProblemError):
        client.guest("..")


@pytest.mark.parametrize("code", ["unsupported-version", "unknown-operation"])
@pytest.mark.parametrize("version", ["1.3", None])
def test_that_another_host_is_too_old_is_told_in_its_words(
    client: Client, socket_path: Path, code: str, version: str | None
) -> None:
    words = "host gamma: this daemon serves 1.1"
    answer = reply({"code": code, "detail": words, "host": "gamma"}, 406, version)
    with serve(socket_path, lambda call: answer), pytest.raises(ProblemError) as caught:
        client.fleet_preflight("gamma")
    assert (str(caught.value), caught.value.problem.code) == (words, code)


def test_a_daemon_that_serves_what_was_declared_is_not_too_old(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: problem("unsupported-version", 406, "so")), pytest.raises(ProblemError):
        client.fleet()


def test_an_older_daemon_sends_what_it_can(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_always(SENT, version="1.0")) as daemon:
        assert client.send("vm1", "guest-ping").channel == "org.qemu.guest_agent.0"
        assert daemon.calls[0].version == "1.0"


def test_a_newer_daemon_is_no_matter(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_always(DOMAIN | {"mood": "good"}, version="1.9")):
        assert client.wait("vm1").name == client.show("vm1").name == "vm1"


def test_a_daemon_that_was_updated_meanwhile_is_another(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_as_1_0):
        client.host()
    socket_path.unlink()
    with serve(socket_path, answer_well):
        assert client.wait("vm1").name == "vm1"


@pytest.mark.parametrize("cap", ["1.0", ApiVersion(1, 0)])
def test_under_a_cap_nothing_newer_is_sent(socket_path: Path, cap: ApiVersion | str) -> None:
    newer = [name for name, operation in OPERATIONS.items() if operation.since > ApiVersion(1, 0)]
    fleet = ["summary", "preflight_to", "fleet", "fleet_forget", "fleet_preflight"]
    assert newer == ["wait", "events", "preflight", "doctor", *fleet]
    with serve(socket_path, answer_well) as daemon, Client(str(socket_path), version_cap=cap) as client:
        for call in (
            lambda: client.wait("vm1"),
            client.events,
            lambda: client.preflight("vm1", HOST),
            client.doctor,
            client.summary,
            lambda: client.preflight_to("vm1", "gamma"),
            client.fleet,
            lambda: client.fleet_forget("gamma"),
            lambda: client.fleet_preflight("gamma"),
        ):
            with pytest.raises(VersionCapError, match=r"above the cap 1\.0$"):
                call()
        assert not daemon.calls
        client.host()
        assert [call.version for call in daemon.calls] == ["1.0"]


@pytest.mark.parametrize(("cap", "declared"), [("1.1", "1.1"), ("1.2", "1.2"), ("1.9", str(API_VERSION))])
def test_a_cap_is_declared_but_never_more_than_we_speak(socket_path: Path, cap: str, declared: str) -> None:
    with serve(socket_path, answer_well) as daemon, Client(str(socket_path), version_cap=cap) as client:
        client.host()
        assert daemon.calls[0].version == declared


def test_a_cap_above_the_daemon_is_refused_and_later_not_even_sent(socket_path: Path) -> None:
    with serve(socket_path, answer_as_1_0) as daemon, Client(str(socket_path), version_cap="1.1") as client:
        for _ in range(2):
            with pytest.raises(VersionCapError, match=r"asked for with 1\.1; the daemon .* serves 1\.0"):
                client.host()
        assert len(daemon.calls) == 1


def test_a_cap_of_another_major() -> None:
    with pytest.raises(VersionCapError, match="no other major"):
        Client(version_cap="2.0")


@pytest.mark.parametrize("cap", ["", "1", "1.x", "01.0"])
def test_a_cap_that_is_no_version(cap: str) -> None:
    with pytest.raises(ValueError, match=r"expected MAJOR\.MINOR"):
        Client(version_cap=cap)


def test_a_daemon_of_another_major(client: Client, socket_path: Path) -> None:
    with serve(socket_path, answer_always(HOST, version="2.0")) as daemon:
        with pytest.raises(VersionCapError, match=r"2\.0"):
            client.host()
        with pytest.raises(VersionCapError, match=r"serves 2\.0"):
            client.host()
        assert len(daemon.calls) == 1


def test_a_daemon_of_another_major_that_was_sent_something(client: Client, socket_path: Path) -> None:
    with (
        serve(socket_path, answer_always(SENT, version="2.0")),
        pytest.raises(ProblemError, match="nobody knows") as caught,
    ):
        client.send("vm1", "guest-ping")
    assert caught.value.problem.kind.exit_code == 4


def test_events_of_another_major(client: Client, socket_path: Path) -> None:
    with serve(socket_path, lambda call: stream(EVENT, version="2.0")), pytest.raises(VersionCapError):
        client.events()


def test_can_send_version_tells_what_the_daemon_says(client: Client, socket_path: Path) -> None:
    for allowed in (True, False):
        document = {"version": "1.7", "served": "1.2", "allowed": allowed, "why": None}
        with serve(socket_path, answer_always(document)) as daemon:
            assert client.can_send_version(ApiVersion(1, 7)) is allowed
            assert daemon.lines == ["GET /v1/can-send-version?version=1.7"]
        socket_path.unlink()
