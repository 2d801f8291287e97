"""The process beside the daemon: started, started again, and ended, whatever it does."""

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from sidecar.adapters import bus_process
from sidecar.adapters.bus_link import Beginning
from sidecar.adapters.bus_process import COMMAND, BusProcess
from sidecar.api.link import Word
from sidecar.errors import BusDownError
from tests.adapters.bus_rig import BEGINNING, BusRig, Puppet, hear_numbers, impatience, rig, tell, until  # noqa: F401

pytestmark = pytest.mark.thorough


async def test_nothing_runs_unless_a_bus_is_configured(rig: BusRig) -> None:
    assert not rig.bus.configured
    assert not rig.bus.connected
    rig.bus.announce({"hostname": "beta"})
    for asking in (rig.bus.collect(["alpha"], 1), rig.bus.call("alpha", "host", {}, 1), rig.bus.forget("alpha")):
        with pytest.raises(BusDownError, match=r"no message bus is configured: \[bus\] url"):
            await asking
    assert rig.bus.pid == 0


async def test_counts_go_on_over_processes(rig: BusRig) -> None:
    first = await rig.begun()
    # What another daemon of this host had dropped is no news.
    await first.say(Word.STATUS, connected=True, waiting=1, notified=5, dropped=0)
    await first.say(Word.STATUS, connected=True, waiting=0, notified=6, dropped=2)
    await until(lambda: rig.tally.bus_dropped == 2)
    first.die()
    await until(lambda: not rig.tally.bus_connected)
    second = await rig.puppet()
    await second.hear(Word.BEGIN)
    await second.say(Word.READY, after=None)
    await second.say(Word.STATUS, connected=True, waiting=0, notified=1, dropped=3)
    await until(lambda: rig.tally.bus_connected)
    assert (rig.tally.bus_notified, rig.tally.bus_dropped, rig.tally.bus_restarts) == (7, 3, 1)


async def test_what_was_dropped_before_is_not_counted(rig: BusRig) -> None:
    rig.bus.begin(BEGINNING)
    puppet = await rig.puppet()
    await puppet.say(Word.READY, after=None)
    await puppet.say(Word.STATUS, connected=True, waiting=0, notified=0, dropped=400)
    await until(lambda: rig.bus.connected)
    assert rig.tally.bus_dropped == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, None])
async def test_one_that_dies_is_followed_by_another(
    rig: BusRig, caplog: pytest.LogCaptureFixture, number: signal.Signals | None
) -> None:
    puppet = await rig.begun()
    first = rig.bus.pid
    if number is None:
        puppet.die()
    else:
        os.kill(first, number)
    await until(lambda: not rig.bus.connected)
    await rig.begun()
    assert rig.bus.pid != first
    assert rig.tally.bus_restarts == 1
    assert [status.connected for status in rig.statuses] == [True, False, True]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"it ended (status {3 if number is None else -number})" in line


async def test_one_that_cannot_be_started(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = BusRig(tmp_path)
    rig.bus = BusProcess(rig.events, rig.tally, (str(tmp_path / "missing"),))
    async with rig.running():
        rig.bus.begin(BEGINNING)
        await until(lambda: rig.tally.bus_restarts == 3)
    assert caplog.text.count("it cannot be started: No such file or directory") == 1


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def read_environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


class TestEnd:
    async def test_it_hears_the_last_event_and_then_the_end(self, tmp_path: Path) -> None:
        async with BusRig(tmp_path).running() as rig:
            puppet = await rig.begun()
            pid = rig.bus.pid
            tell(rig, 1, 3)
        words = await puppet.hear_end()
        assert [values["event"]["number"] for values in words] == [1, 2, 3]
        assert not is_there(pid)

    async def test_one_that_hangs_is_killed(self, tmp_path: Path) -> None:
        async with BusRig(tmp_path).running() as rig:
            await rig.begun()
            pid = rig.bus.pid
            os.kill(pid, signal.SIGSTOP)
            rig.bus.announce({"filler": "x" * 200_000})
            tell(rig, 1, 3)
            begun = time.monotonic()
        assert time.monotonic() - begun < bus_process.STOP_S + 10
        assert not is_there(pid)

    async def test_another_beginning_is_another_process(self, rig: BusRig) -> None:
        first = await rig.begun()
        pid = rig.bus.pid
        rig.bus.begin(Beginning("beta", "1.3", BEGINNING.section))
        await asyncio.sleep(0)
        assert rig.bus.pid == pid
        rig.bus.begin(Beginning("gamma", "1.3", BEGINNING.section))
        second = await rig.puppet()
        assert (await second.hear(Word.BEGIN))["hostname"] == "gamma"
        assert await first.hear_end() == []
        assert rig.tally.bus_restarts == 0
        rig.bus.begin(None)
        assert await second.hear_end() == []
        await until(lambda: rig.bus.pid == 0)
        assert not rig.bus.configured

    async def test_a_new_beginning_waits_for_no_restart(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bus_process, "RESTART_FIRST_S", 3600.0)
        monkeypatch.setattr(bus_process, "RESTART_LAST_S", 3600.0)
        (await rig.begun()).die()
        await until(lambda: rig.tally.bus_restarts == 1)
        rig.bus.begin(Beginning("gamma", "1.3", {}))
        assert (await (await rig.puppet()).hear(Word.BEGIN))["hostname"] == "gamma"

    async def test_it_has_no_word_with_systemd(self, rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/nobody")
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
        await rig.begun()
        environment = read_environment(rig.bus.pid)
        assert b"JOURNAL_STREAM=8:1" in environment
        assert not any(entry.startswith(b"NOTIFY_SOCKET=") for entry in environment)


def test_the_process_takes_nothing_from_where_it_was_started() -> None:
    assert COMMAND[1:] == ("-P", "-m", "sidecar.bus")
