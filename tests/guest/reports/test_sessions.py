import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from sidecar.guest.reports import sessions
from sidecar.guest.reports.sessions import read_lock_hint, report_active_user
from tests.guest.reports.guest_tree import plant, plant_program


@dataclass(frozen=True)
class One:
    name: str
    terminal: str | None = "tty1"
    host: str | None = ""
    started: float = 0.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, {"run/utmp": ""})


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def plant_logind(programs: Path, session: str = "c2", properties: str = "Class=user\nLockedHint=yes\nName=ada") -> None:
    script = f"""case "$1 $2" in
"show-seat seat0") printf 'ActiveSession={session}\\n';;
"show-session {session}") printf '{properties}\\n';;
*) exit 1;;
esac"""
    plant_program(programs, "loginctl", script)


def user(root: Path, *logins: One) -> object:
    found = report_active_user(root, lambda: logins)
    assert list(found) == ["name"]
    return found["name"]


class TestActiveUser:
    @pytest.mark.parametrize(
        ("terminal", "host"),
        [
            ("tty1", ""),
            ("tty1", None),
            ("ttyS0", ""),
            ("ttyAMA0", ""),
            ("hvc0", ""),
            ("console", ""),
            (":0", ":0"),
            (":0", "localhost"),  # what psutil 5 makes of it
            (":1.0", ""),
            ("tty2", ":0"),
            ("tty2", "tty2"),
        ],
    )
    def test_at_the_console(self, terminal: str, host: str | None, root: Path) -> None:
        assert user(root, One("ada", terminal, host)) == "ada"

    @pytest.mark.parametrize(
        ("terminal", "host"),
        [
            ("pts/0", "192.0.2.7"),
            ("pts/0", "localhost"),
            ("pts/1", ":0"),
            ("pts/1", ":pts/0:S.0"),
            (":0", "far.example.org"),
            (None, None),
            ("", ""),
            ("ttyX", ""),
            ("tty1x", ""),
        ],
    )
    def test_elsewhere(self, terminal: str | None, host: str | None, root: Path) -> None:
        assert user(root, One("ada", terminal, host)) == "None"

    def test_display_counts_more_than_text(self, root: Path) -> None:
        logins = [One("text", "tty1", "", 9), One("display", ":0", ":0", 5), One("far", "pts/0", "192.0.2.7", 10)]
        assert user(root, *logins) == user(root, *reversed(logins)) == "display"

    @pytest.mark.parametrize("host", [":0", "localhost", "tty2"])
    def test_display_may_have_a_terminals_name(self, host: str, root: Path) -> None:
        assert user(root, One("text", "tty1", "", 9), One("display", "tty2", host, 5)) == "display"

    def test_login_without_a_name_is_none(self, root: Path) -> None:
        assert user(root, One("", ":0", ":0"), One("ada")) == "ada"

    def test_last_to_come_counts(self, root: Path) -> None:
        logins = [One("first", "tty1", "", 1), One("last", "tty2", "", 2)]
        assert user(root, *logins) == user(root, *reversed(logins)) == "last"

    def test_nobody(self, root: Path) -> None:
        assert user(root) == user(root, One("")) == "None"

    def test_names_are_cleaned_and_cut(self, root: Path) -> None:
        assert user(root, One("a\udcff\x1b" + "x" * 1000)) == "a\ufffd\ufffd" + "x" * 253

    def test_this_machine(self) -> None:
        if os.path.exists("/run/utmp"):
            names = {login.name for login in psutil.users()} | {"None"}
            assert report_active_user()["name"] in names

    def test_logind_is_asked_where_there_is_no_utmp(self, programs: Path, tmp_path: Path) -> None:
        plant_logind(programs)
        assert user(tmp_path, One("ignored")) == "ada"

    def test_utmp_at_its_old_place(self, programs: Path, tmp_path: Path) -> None:
        plant_logind(programs)
        assert user(plant(tmp_path, {"var/run/utmp": ""}), One("grace")) == "grace"

    @pytest.mark.parametrize("properties", ["Class=greeter\\nName=gdm", "Class=user", "", "garbage"])
    def test_nobody_says_logind(self, properties: str, programs: Path, tmp_path: Path) -> None:
        plant_logind(programs, properties=properties)
        assert user(tmp_path) == "None"

    def test_neither_utmp_nor_logind(self, programs: Path, tmp_path: Path) -> None:
        assert user(tmp_path) == "None"
        plant_program(programs, "loginctl", "exit 1")
        assert user(tmp_path) == "None"

    def test_logind_that_hangs_is_an_error(
        self, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "_LOGINCTL_LIMIT_S", 0.2)
        plant_program(programs, "loginctl", "exec /bin/sleep 60")
        with pytest.raises(TimeoutError):
            user(tmp_path)


class TestLockHint:
    @pytest.mark.parametrize(
        ("properties", "expected"),
        [
            ("Class=user\\nLockedHint=yes", True),
            ("LockedHint=no\\nClass=user", False),
            ("Class=user-early\\nLockedHint=no", False),
            ("Class=greeter\\nLockedHint=no", None),
            ("Class=user", None),
            ("Class=user\\nLockedHint=maybe", None),
            ("LockedHint=yes", None),
            ("", None),
            ("\\377\\001=\\n=\\n", None),
        ],
    )
    def test_hint_of_the_session_in_front(self, properties: str, expected: bool | None, programs: Path) -> None:
        plant_logind(programs, properties=properties)
        assert read_lock_hint() is expected

    @pytest.mark.parametrize("session", ["", "-H evil", "../x", "a b", "x" * 65, "--help", "é"])
    def test_odd_sessions_are_not_asked_for(self, session: str, programs: Path) -> None:
        plant_program(programs, "loginctl", f'echo "$@" >> {programs}/log; echo "ActiveSession={session}"')
        assert read_lock_hint() is None
        assert (programs / "log").read_text() == "show-seat seat0 --property=ActiveSession\n"

    def test_what_is_asked(self, programs: Path) -> None:
        plant_program(programs, "loginctl", f'echo "$@" >> {programs}/log; echo ActiveSession=12')
        read_lock_hint()
        assert (programs / "log").read_text().splitlines()[1:] == [
            "show-session 12 --property=Class --property=LockedHint --property=Name"
        ]

    def test_without_loginctl(self, programs: Path) -> None:
        assert read_lock_hint() is None

    @pytest.mark.parametrize(
        "script",
        [
            "exit 1",
            r'printf "ActiveSession=1\nClass=user\nLockedHint=yes\n"; exit 1',
            "exec /bin/sleep 60",
            "while :; do echo ActiveSession=1; done",
        ],
    )
    def test_loginctl_that_fails(self, script: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "_LOGINCTL_LIMIT_S", 0.2)
        plant_program(programs, "loginctl", script)
        assert read_lock_hint() is None

    def test_loginctl_that_may_not_be_run(self, programs: Path) -> None:
        (programs / "loginctl").write_text("no program")
        assert read_lock_hint() is None
