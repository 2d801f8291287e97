import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from sidecar.adapters.qemu_process import find_qemu, run_token
from sidecar.errors import HypervisorError

SLEEPER = (sys.executable, "-c", "print(flush=True); input()")


@contextmanager
def process(*arguments: str) -> Iterator[int]:
    """A process that lives until the block ends."""
    with subprocess.Popen(arguments or SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.readline()  # before that the kernel may still be putting the command line in place
        yield made.pid
        made.communicate(b"\n", 10)


GUEST = UUID("5c0f0000-0000-4000-8000-000000000001")


class TestFindQemu:
    @pytest.mark.parametrize("ending", ["", "\n"])
    @pytest.mark.parametrize(
        ("name", "stem"),
        [("vm", "vm"), ("a b $(id)", "a b $(id)"), ("--help", "--help"), ("a<b&'c'", "a&lt;b&amp;&apos;c&apos;")],
    )
    def test_reads_libvirts_pid_file(self, name: str, stem: str, ending: str, tmp_path: Path) -> None:
        with process(*SLEEPER, "-uuid", str(GUEST)) as pid:
            (tmp_path / f"{stem}.pid").write_text(f"{pid}{ending}")
            assert find_qemu(GUEST, name, tmp_path) == pid

    def test_stale_file_of_a_process_that_is_another_now(self, tmp_path: Path) -> None:
        with process(*SLEEPER, "-uuid", str(UUID(int=2)), f"x{GUEST}") as pid:
            (tmp_path / "vm.pid").write_text(str(pid))
            with pytest.raises(HypervisorError):
                find_qemu(GUEST, "vm", tmp_path)

    def test_file_of_a_process_that_is_gone(self, tmp_path: Path) -> None:
        with process(*SLEEPER, str(GUEST)) as pid:
            (tmp_path / "vm.pid").write_text(str(pid))
        with pytest.raises(HypervisorError):
            find_qemu(GUEST, "vm", tmp_path)

    @pytest.mark.parametrize("content", [None, "", "x", "\xff", "12 13", "-1"])
    def test_file_that_tells_nothing(self, content: str | None, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "vm.pid").write_bytes(content.encode("latin1"))
        with pytest.raises(HypervisorError):
            find_qemu(GUEST, "vm", tmp_path)

    @pytest.mark.parametrize("name", ["n" * 400, "a\0b"])
    def test_name_that_is_no_file_name(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(HypervisorError):
            find_qemu(GUEST, name, tmp_path)


class TestRunToken:
    def test_same_while_the_process_lives(self) -> None:
        assert run_token(os.getpid()) == run_token(os.getpid())

    def test_another_for_a_process_that_runs_at_the_same_time_or_later(self) -> None:
        with process() as first:
            one = run_token(first)
        with process() as second, process() as third:
            tokens = {one, run_token(second), run_token(third), run_token(os.getpid())}
        assert len(tokens) == 4

    def test_process_that_is_gone(self) -> None:
        with process() as pid:
            run_token(pid)
        with pytest.raises(HypervisorError):
            run_token(pid)

    def test_serves_as_an_attribute(self) -> None:
        token = run_token(os.getpid())
        assert token.isascii()
        assert token.isalnum()
        assert 16 <= len(token) <= 64

    @pytest.mark.parametrize("command", ["qemu", "a) b", "x) S 1 2 3 (y", ") " * 7])
    def test_start_time_is_found_whatever_the_command_is_called(self, command: str, tmp_path: Path) -> None:
        plain = self._token(tmp_path / "plain", "qemu", started=777)
        assert self._token(tmp_path / "odd", command, started=777) == plain
        assert self._token(tmp_path / "later", command, started=778) != plain
        assert self._token(tmp_path / "boot", command, started=777, boot="another") != plain

    def _token(self, proc: Path, command: str, *, started: int, boot: str = "one") -> str:
        (proc / "sys/kernel/random").mkdir(parents=True)
        (proc / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
        (proc / "4711").mkdir()
        fields = ["S", *(str(number) for number in range(4, 22)), str(started), "9", "9"]
        (proc / "4711/stat").write_text(f"4711 ({command}) {' '.join(fields)}\n")
        return run_token(4711, proc)
