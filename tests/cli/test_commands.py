"""The commands that ask the daemon: what is printed, and the exit code."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.views import DoctorView, FindingView
from sidecar.cli import host_doctor, talk
from sidecar.cli.main import main
from sidecar.client import Client
from sidecar.client.unix_http import UnixConnection
from tests.client.fake_daemon import HANG_UP, Answer, Call, Reply, problem, reply, serve
from tests.client.samples import (
    ANSWERS,
    DOMAIN,
    FORBIDDEN,
    FORECAST,
    GUEST,
    HOST,
    SENT,
    answer_always,
    answer_well,
)


@dataclass(frozen=True)
class Done:
    """What a run left."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SIDECAR_SOCKET", str(path))

    def run(*arguments: str) -> Done:
        code = main(arguments)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that is everybody's to look into."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def offer(tmp_path: Path) -> str:
    file = tmp_path / "offer.json"
    file.write_text(json.dumps(HOST))
    return str(file)


def expect_line(done: Done, code: int, *words: str) -> None:
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("sidecarctl: ")
    assert done.err.count("\n") == 1
    assert all(word in done.err for word in words), done.err


READING = [
    (("list",), "GET /v1/domains"),
    (("messages", "vm1"), "GET /v1/domains/vm1/messages"),
    (("messages", "vm1", "--channel", "c"), "GET /v1/domains/vm1/messages?channel=c"),
    (("can-send", "vm1", "lock-screen"), "GET /v1/domains/vm1/messages/lock-screen"),
    (("host",), "GET /v1/host"),
    (("wait", "vm1"), "GET /v1/domains/vm1/wait?for=agreed&timeout=60.0"),
    (
        ("wait", "vm1", "--for=lost", "--timeout=5", "--channel=c"),
        "GET /v1/domains/vm1/wait?for=lost&timeout=5.0&channel=c",
    ),
    (("renegotiate", "vm1"), "POST /v1/domains/vm1/renegotiate"),
    (("send", "vm1", "guest-ping"), "POST /v1/domains/vm1/messages/guest-ping"),
    (("doctor",), "GET /v1/doctor"),
    (("fleet", "forget", "gamma"), "POST /v1/fleet/gamma/forget"),
]


@pytest.mark.parametrize(("arguments", "line"), READING)
def test_what_is_asked_and_printed(run: Run, path: Path, arguments: tuple[str, ...], line: str) -> None:
    with serve(path, answer_well) as daemon:
        done = run(*arguments)
        assert (done.code, done.err, daemon.lines) == (0, "", [line])
        assert done.out.strip()
        as_json = run(*arguments, "--json")
        assert (as_json.code, as_json.err, as_json.document) == (0, "", ANSWERS[line])


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in READING if arguments != ("doctor",)])
def test_a_daemon_that_goes_away_in_the_middle(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    changes = arguments[0] in ("send", "renegotiate", "fleet")
    with serve(path, lambda call: HANG_UP) as daemon:
        expect_line(run(*arguments), 4 if changes else 3, "hung up", "nobody knows" if changes else str(path))
        assert len(daemon.calls) == 1


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in READING if arguments != ("doctor",)])
def test_nobody_there(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    expect_line(run(*arguments), 3, f"{path}: there is no such socket")


class TestShow:
    def test_with_what_the_guest_told(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            done = run("show", "vm1")
            assert daemon.lines == ["GET /v1/domains/vm1", "GET /v1/domains/vm1/guest"]
            assert daemon.connections == 1
            assert (done.code, done.err) == (0, "")
            assert all(word in done.out for word in ("vm1", "agreed", "guest.example", "12 s", "2 h"))
            assert run("show", "vm1", "--json").document == DOMAIN | {"guest": GUEST}

    def test_on_the_read_only_socket(self, run: Run, path: Path) -> None:
        def answer(call: Call) -> Reply:
            return problem("forbidden", 403, "not \x1b[31mhere") if "guest" in call.target else answer_well(call)

        with serve(path, answer):
            done = run("show", "vm1")
            assert (done.code, done.err) == (0, "")
            assert done.out.endswith("\nguest: not shown: not \\x1b[31mhere (forbidden)\n")
            as_json = run("show", "vm1", "--json")
            assert (as_json.code, as_json.document) == (0, DOMAIN | {"guest": None})

    def test_nobody_of_that_name(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            assert run("show", "nobody") == Done(1, "", "sidecarctl: no such domain (domain-not-found)\n")
            assert len(daemon.calls) == 1

    def test_a_daemon_that_goes_away_in_between(self, run: Run, path: Path) -> None:
        with serve(path, lambda call: HANG_UP if "guest" in call.target else answer_well(call)):
            expect_line(run("show", "vm1"), 3)


class TestCanSend:
    def test_yes(self, run: Run, path: Path) -> None:
        with serve(path, answer_well):
            assert "on ovirt-guest-agent.0" in run("can-send", "vm1", "lock-screen").out

    def test_no(self, run: Run, path: Path) -> None:
        with serve(path, answer_well):
            expect_line(
                run("can-send", "vm1", "guest-ping"),
                1,
                "vm1: guest-ping: the channel is lost",
                f" ({FORBIDDEN['code']})\n",
            )
            as_json = run("can-send", "vm1", "guest-ping", "--json")
            assert (as_json.code, as_json.document) == (1, FORBIDDEN)
            assert as_json.err.count("\n") == 1

    def test_no_such_message(self, run: Run, path: Path) -> None:
        with serve(path, lambda call: problem("not-in-table", 404, "no table has it")):
            expect_line(run("can-send", "vm1", "x"), 1, "no table has it")


class TestSend:
    def test_the_reply(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            done = run("send", "vm1", "guest-ping", "--timeout", "3", "a=1", "b=x", "--channel", "c")
            assert (done.code, done.err, json.loads(done.out)) == (0, "", SENT["reply"])
            assert json.loads(daemon.calls[0].body) == {"arguments": {"a": 1, "b": "x"}, "timeout": 3.0, "channel": "c"}

    def test_without_a_reply(self, run: Run, path: Path) -> None:
        with serve(path, answer_well):
            done = run("send", "vm1", "lock-screen")
            assert (done.code, done.out) == (0, "lock-screen was sent to vm1, on org.qemu.guest_agent.0\n")

    @pytest.mark.parametrize("reply_", ["\x1b[2J", {"\u202e": "\x9b"}])
    def test_a_reply_that_is_hostile(self, run: Run, path: Path, reply_: Any) -> None:
        with serve(path, answer_always(SENT | {"reply": reply_})):
            out = run("send", "vm1", "guest-ping").out
        assert out.isascii()
        assert out.replace("\n", "").isprintable()
        assert json.loads(out) == reply_

    @pytest.mark.parametrize(
        ("code", "exit_code"),
        [
            ("version-too-low", 1),
            ("bad-arguments", 1),
            ("command-failed", 1),
            ("not-sent", 1),
            ("forbidden", 1),
            ("bad-request", 2),
            ("no-answer", 4),
            ("bad-reply", 4),
            ("outcome-unknown", 4),
            ("never-heard-of", 1),
        ],
    )
    def test_the_exit_code_is_the_problems(self, run: Run, path: Path, code: str, exit_code: int) -> None:
        with serve(path, lambda call: problem(code, detail="so\nit\x1b is")):
            expect_line(run("send", "vm1", "guest-ping"), exit_code, f"so\\nit\\x1b is ({code})\n")

    @pytest.mark.parametrize("arguments", [("send", "vm1", "guest-ping"), ("renegotiate", "vm1")])
    def test_interrupted(
        self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with serve(path, answer_well):
            for place, name in ((Client, "connect"), (UnixConnection, "request")):
                with monkeypatch.context() as patched:
                    patched.setattr(place, name, interrupt)
                    assert run(*arguments) == Done(130, "", "")
            monkeypatch.setattr(UnixConnection, "getresponse", interrupt)
            expect_line(run(*arguments), 4, "vm1: ", "interrupted after it was sent: nobody knows", "(no-answer)")
            assert run("list") == Done(130, "", "")


def test_renegotiating_says_that_it_does_not_wait(run: Run, path: Path) -> None:
    with serve(path, answer_well):
        done = run("renegotiate", "vm1")
    assert done.out.splitlines()[:2] == ["asked anew; sidecarctl wait vm1 tells when it is agreed", ""]
    assert "agreed" in done.out.splitlines()[3]
    assert done.err == ""


class TestPreflight:
    def test_something_lost(self, run: Run, path: Path, offer: str) -> None:
        with serve(path, answer_well) as daemon:
            done = run("preflight", "vm1", "--offer", offer)
            assert json.loads(daemon.calls[0].body) == HOST
            assert (done.code, done.err) == (1, "sidecarctl: vm1 would lose 1 message on gamma\n")
            assert "hibernate" in done.out
            as_json = run("preflight", "vm1", "--offer", offer, "--json")
            assert (as_json.code, as_json.document) == (1, FORECAST)

    def test_nothing_lost(self, run: Run, path: Path, offer: str) -> None:
        with serve(path, answer_always(FORECAST | {"nothing_lost": True, "channels": []})):
            done = run("preflight", "vm1", "--offer", offer)
            assert (done.code, done.err) == (0, "")

    def test_the_fleet_is_asked_instead_of_a_file(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            done = run("preflight", "vm1", "--host", "gamma")
            assert daemon.lines == ["GET /v1/domains/vm1/preflight/gamma"]
            assert (done.code, done.err) == (1, "sidecarctl: vm1 would lose 1 message on gamma\n")
            assert "hibernate" in done.out
            as_json = run("preflight", "vm1", "--host", "gamma", "--json")
            assert (as_json.code, as_json.document) == (1, FORECAST)

    def test_the_time_is_handed_on(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            run("preflight", "vm1", "--host", "gamma", "--timeout", "2.5")
            assert daemon.lines == ["GET /v1/domains/vm1/preflight/gamma?timeout=2.5"]

    @pytest.mark.parametrize(("code", "exit_code"), [("host-not-found", 1), ("host-unreachable", 3)])
    def test_the_fleet_does_not_help(self, run: Run, path: Path, code: str, exit_code: int) -> None:
        with serve(path, lambda call: problem(code, detail="gamma: why not")):
            expect_line(run("preflight", "vm1", "--host", "gamma"), exit_code, f"gamma: why not ({code})\n")

    def test_refused_by_policy(self, run: Run, path: Path, offer: str) -> None:
        forecast = FORECAST | {"nothing_lost": True, "channels": [], "refusal": "vm1: the policy\nsays no"}
        with serve(path, answer_always(forecast)):
            done = run("preflight", "vm1", "--offer", offer)
            assert (done.code, done.err) == (1, "sidecarctl: vm1: the policy\\nsays no\n")


class TestDoctor:
    def test_a_fault(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            done = run("doctor", "vm1")
            assert "no fault" not in done.out
            assert daemon.lines == ["GET /v1/domains/vm1/doctor"]
            assert (done.code, done.err) == (1, "sidecarctl: 1 fault was found\n")
            assert "systemctl start qemu-guest-agent" in done.out

    def test_no_fault(self, run: Run, path: Path) -> None:
        with serve(path, answer_well):
            assert run("doctor") == Done(0, "looked at: hook\nlooked at: libvirt\n\nno fault found\n", "")

    def test_a_problem_has_its_code_escaped(self, run: Run, path: Path) -> None:
        with serve(path, lambda call: problem("a\x1b\n", detail="so")):
            expect_line(run("doctor"), 1, "so (a\\x1b\\n)\n")

    @pytest.mark.parametrize("there", [True, False])
    def test_without_the_daemon_the_host_is_looked_at(
        self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        asked = []
        finding = FindingView("daemon-down", None, None, "it does not run", "start it")

        def examine(*arguments: object) -> DoctorView:
            asked.append(arguments)
            return DoctorView(False, ("hook",), (finding,))

        monkeypatch.setattr(host_doctor, "examine", examine)
        monkeypatch.setenv("SIDECAR_SOCKET", "")
        monkeypatch.setattr(talk, "DEFAULT_SOCKET", str(path))
        answer: Answer = lambda call: HANG_UP  # noqa: E731
        with serve(path if there else path.with_name("other"), answer):
            done = run("doctor", "vm1", "--hooks-dir", "/h", "--config", "/c")
            assert (done.code, asked) == (1, [(Path("/h"), Path("/c"), "vm1")])
            assert "daemon-down: it does not run\n  start it\n" in done.out
            as_json = run("doctor", "--json")
            assert asked[1] == (Path("/etc/libvirt/hooks"), None, None)
            assert as_json.document["findings"][0]["code"] == "daemon-down"

    @pytest.mark.parametrize("by_argument", [True, False])
    def test_a_socket_that_was_named_may_be_another_hosts(
        self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch, by_argument: bool
    ) -> None:
        monkeypatch.delattr(host_doctor, "examine")
        if by_argument:
            monkeypatch.setenv("SIDECAR_SOCKET", "")
        named = ("--socket", str(path)) if by_argument else ()
        expect_line(run("doctor", *named), 3, f"{path}: there is no such socket")
        with serve(path, lambda call: HANG_UP):
            expect_line(run("doctor", "--json", *named), 3, "hung up")

    def test_a_refusal_is_no_reason_to_look_oneself(
        self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(host_doctor, "examine")
        with serve(path, lambda call: problem("forbidden", 403, "not here")):
            expect_line(run("doctor"), 1, "not here")


class TestVersions:
    def test_an_older_daemon(self, run: Run, path: Path, offer: str) -> None:
        with serve(path, lambda call: problem("unsupported-version", 406, version="1.0")):
            expect_line(
                run("wait", "vm1"), 1, "wait came with version 1.1 of the API", "serves 1.0 (unsupported-version)\n"
            )
            expect_line(run("preflight", "vm1", "--offer", offer), 1, "version 1.2")
            expect_line(run("doctor"), 1, "version 1.2")

    def test_a_newer_daemon_tells_more_in_json(self, run: Run, path: Path) -> None:
        newer = [DOMAIN | {"mood": "good"}]
        with serve(path, answer_always(newer, version="1.9")):
            assert run("list", "--json").document == newer
            assert run("list").code == 0


class TestSockets:
    def test_given_before_after_and_by_the_environment(
        self, run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = path.with_name("other.sock")
        with serve(other, answer_well):
            assert run("host", "--socket", str(other)).code == 0
            assert run("--socket", str(other), "host").code == 0
            expect_line(run("host"), 3, str(path))
            monkeypatch.setenv("SIDECAR_SOCKET", "")
            monkeypatch.setattr(talk, "DEFAULT_SOCKET", str(other))
            assert run("host").code == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.parametrize("named", ["argument", "environment", None])
    def test_who_may_not_use_the_one_and_named_none_gets_the_other(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, public: Path, named: str | None
    ) -> None:
        path, readonly = public / "api.sock", public / "api-ro.sock"
        monkeypatch.setattr(talk, "DEFAULT_SOCKET", str(path))
        monkeypatch.setattr(talk, "READONLY_SOCKET", str(readonly))
        monkeypatch.setenv("SIDECAR_SOCKET", str(path) if named == "environment" else "")
        with serve(path, answer_well), serve(readonly, answer_well) as daemon:
            path.chmod(0o600)
            readonly.chmod(0o666)
            os.seteuid(65534)
            try:
                done = run("host", *(["--socket", str(path)] if named == "argument" else []))
            finally:
                os.seteuid(0)
            if named:
                expect_line(done, 3, str(path), "may not open the socket")
            else:
                assert (done.code, len(daemon.calls)) == (0, 1)


def test_an_answer_that_is_none(run: Run, path: Path) -> None:
    with serve(path, lambda call: Reply(b"\x1b[31mhello\n", closes=True)):
        expect_line(run("list"), 3, "no answer of sidecard's")
        expect_line(run("send", "vm1", "guest-ping"), 4, "nobody knows")


@pytest.mark.parametrize("arguments", [("list",), ("host",), ("messages", "vm1"), ("show", "vm1")])
@pytest.mark.parametrize("document", ["nonsense", ["nonsense"], [float("nan")], {"name": float("inf")}])
def test_json_that_is_no_answer_is_not_passed_on(
    run: Run, path: Path, arguments: tuple[str, ...], document: object
) -> None:
    with serve(path, answer_always(document)):
        expect_line(run(*arguments, "--json"), 3, "no answer of sidecard's")


def test_text_that_the_terminal_cannot_show(run: Run, path: Path) -> None:
    with serve(path, lambda call: reply([DOMAIN | {"name": "\ud800新\x1b"}])):
        assert "\\ud800新\\x1b" in run("list").out
        assert run("list", "--json").out.isascii()
