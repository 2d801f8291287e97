"""What a host may have done: which program with which words, and what is refused."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sidecar.guest.commands import Commands
from sidecar.guest.configuration import COMMANDS
from sidecar.guest.programs import Ended, Programs


class NoPrograms:
    """Keeps what would be started."""

    def __init__(self) -> None:
        self.started: list[tuple[list[str], float, bytes]] = []
        self.ended: list[Ended] = []
        self.can_start = True

    def start(
        self,
        command: Sequence[str] | Sequence[bytes],
        limit_s: float,
        ended: Ended,
        *,
        stdin: bytes = b"",
        extra: Mapping[str, str],
    ) -> bool:
        assert extra == {}
        words = [bytes(word, "ascii") if isinstance(word, str) else word for word in command]
        assert words == list(command)  # in bytes, so that no locale has a say
        self.started.append(([word.decode() for word in words], limit_s, stdin))
        self.ended.append(ended)
        return self.can_start


class Rig:
    def __init__(self) -> None:
        self.programs = NoPrograms()
        self.ended = 0

    def run(self, name: str, arguments: Mapping[str, Any], *program: str) -> list[str]:
        """The command line that is run."""
        programs: Any = self.programs
        configured = {**COMMANDS, **({name: program} if program else {})}
        Commands(configured, 30.0, programs).run(name, arguments, self._end)
        return self.programs.started[-1][0] if self.programs.started else []

    def _end(self) -> None:
        self.ended += 1


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Rig:
    caplog.set_level(logging.DEBUG)
    return Rig()


def test_the_rig_starts_as_programs_do() -> None:
    start: Callable[..., bool] = Programs.start
    assert start.__annotations__ == NoPrograms.start.__annotations__


@pytest.mark.parametrize(
    ("arguments", "action", "when"),
    [
        ({}, "-h", "now"),
        ({"timeout": 0, "reboot": "False"}, "-h", "now"),
        ({"timeout": 1, "reboot": "True"}, "-r", "+1"),
        ({"timeout": 60, "reboot": "true"}, "-r", "+1"),
        ({"timeout": 61, "reboot": True}, "-r", "+2"),
        ({"timeout": "120", "reboot": False}, "-h", "+2"),
        ({"timeout": "-1", "reboot": 1}, "-h", "now"),
        ({"timeout": -60, "reboot": None}, "-h", "now"),
        ({"timeout": True, "reboot": ["True"]}, "-h", "now"),
        ({"timeout": 60.5, "reboot": {}}, "-h", "+2"),
        ({"timeout": 60.0}, "-h", "+1"),
        ({"timeout": " 60 "}, "-h", "+1"),
        ({"timeout": "0000000000060"}, "-h", "+1"),
        ({"timeout": "100000000"}, "-h", "+525600"),
        ({"timeout": 100000000}, "-h", "+525600"),
        ({"timeout": float("inf")}, "-h", "+525600"),
        ({"timeout": float("nan")}, "-h", "now"),
        ({"timeout": "60.0"}, "-h", "now"),
        ({"timeout": "²", "reboot": "True; id"}, "-h", "now"),
        ({"timeout": "9" * 5000, "reboot": "TRUE"}, "-r", "+525600"),
        ({"timeout": 10**300}, "-h", "+525600"),
    ],
)
def test_shutdown(arguments: dict[str, Any], action: str, when: str, rig: Rig) -> None:
    said = "This machine is being shut down by its host."
    assert rig.run("shutdown", arguments) == ["/usr/sbin/shutdown", action, "--", when, said]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("Wartung um 5; $(reboot) `id`", "Wartung um 5; $(reboot) `id`"),
        ("--help", "--help"),
        ("Réboot 漢", "Réboot 漢"),
        ("{when}", "{when}"),
        ("esc \x1b[2J nul \0", "esc \ufffd[2J nul \ufffd"),
        ("\ud800", "\ufffd"),
        ("x" * 10_000, "x" * 200),
        (" \n", None),
        ("", None),
        (17, None),
        (["a"], None),
    ],
)
def test_what_users_are_told(message: object, said: str | None, rig: Rig) -> None:
    default = rig.run("shutdown", {})[-1]
    assert rig.run("shutdown", {"message": message})[-1] == (said or default)


@pytest.mark.parametrize(
    ("state", "word"), [("disk", "disk"), ("mem", "mem"), ("", "disk"), ("disk; id", "disk"), (None, "disk"),
                        (["mem"], "disk"), ({}, "disk")]
)  # fmt: skip
def test_hibernate(state: object, word: str, rig: Rig) -> None:
    program = ["systemctl", "{state}", "not {state}"]
    assert rig.run("hibernate", {"state": state}, *program) == ["systemctl", word, "not {state}"]


@pytest.mark.parametrize("count", [1, 16, 65536])
def test_number_of_cpus(count: int, rig: Rig) -> None:
    assert rig.run("set-number-of-cpus", {"count": count}, "cpus", "{count}") == ["cpus", str(count)]


@pytest.mark.parametrize("count", [0, -1, 65537, True, "2", "2; id", 2.0, None, [2], 10**300])
def test_what_is_no_number_of_cpus(count: object, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert rig.run("set-number-of-cpus", {"count": count}, "cpus", "{count}") == []
    assert caplog.messages == ["set-number-of-cpus: refused: count is no number from 1 to 65536"]
    assert rig.ended == 1


def test_lock_screen_needs_nothing(rig: Rig) -> None:
    assert rig.run("lock-screen", {}) == ["loginctl", "lock-sessions"]


@pytest.mark.parametrize("name", ["hibernate", "log-off", "login", "set-number-of-cpus", "no such command"])
def test_off_unless_configured(name: str, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert rig.run(name, {"password": "geheim"}) == []
    assert caplog.messages == [f"{name}: refused: the agent's configuration has no program for it"]
    assert rig.ended == 1


def test_credentials_are_on_standard_input_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    arguments = {"username": "ü@domain", "password": "{password} geheim \ud800", "odd": [None, 1.5, {"a": True}]}
    assert rig.run("login", arguments, "log-in", "{password}") == ["log-in", "{password}"]
    _, limit_s, stdin = rig.programs.started[0]
    assert limit_s == 30.0
    assert json.loads(stdin) == {**arguments, "password": "{password} geheim ?"}
    assert caplog.messages == ["login: the host wants it; running log-in"]


def test_it_is_told_when_its_program_ended_and_not_before(rig: Rig) -> None:
    rig.run("log-off", {}, "log-off")
    assert rig.ended == 0
    rig.programs.ended[0]()
    assert rig.ended == 1


def test_it_is_told_at_once_when_the_program_cannot_be_started(rig: Rig) -> None:
    rig.programs.can_start = False
    rig.run("log-off", {}, "log-off")
    assert rig.ended == 1


def test_arguments_that_could_just_be_read(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    assert rig.run("login", {"deep": deep}, "log-in") == []
    assert caplog.messages == ["login: refused: its arguments are nested too deep"]
    assert rig.ended == 1
