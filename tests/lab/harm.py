"""Guests harmed by us: watches, while a test does harm, that the guest runs on and that libvirt's own commands answer.

    with Vigil(guest, alpha, beta) as vigil:
        with vigil.libvirtd_broken(alpha):  # only the guest is watched, and the other host
            alpha.restart_libvirtd(kill=True)
        with vigil.moving():  # the guest may be on either host until it is done
            guest.migrate(beta)

The guest tells by its console that it runs, so that neither libvirtd nor a channel is needed to see it, on whichever
host. What went wrong is raised at the end of the `with`; what was worst is printed, and to be had from `worst`.
"""

import contextlib
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from types import TracebackType
from typing import Self

from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.waiting import wait_for

# libvirt answers in milliseconds; behind a job of ours that hangs it would take 30 s. The rest is for a busy machine.
ANSWER_S = 20.0
# The guest speaks twice a second, and a migration stops it for a fraction of one. The rest is for a busy machine.
STILL_S = 30.0
_ROUND_PAUSE_S = 0.4
_LOOK_PAUSE_S = 0.1

_PULSE = "lab-pulse"
# A file keeps it going; a vigil that comes later, or a guest that went back to an earlier state, takes that away.
_FILES = "/run/lab-vigil"
_PULSES = "(while [ -e {file} ]; do echo {pulse} >/dev/ttyS0; sleep 0.5; done) </dev/null >/dev/null 2>&1 &"
_TIME = re.compile(r"\(Time: ([\d.]+) ms\)")
_COMMANDS = ("list", "domstate", "dominfo")


class Place(Enum):
    """Where the guest ought to be."""

    HERE = "it runs on its host, in the QEMU process that it was in"
    MOVING = "it runs, on one of the hosts"
    STANDING = "it does not run, and the test knows why"


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """What is right now; a look during which it was replaced by another is not judged."""

    place: Place
    host: Host
    qemu: str
    broken: frozenset[str] = frozenset()


class Vigil:
    """See the module. ``hosts`` are those whose libvirtd must answer, without any the guest's own.

    Attributes:
        worst: in seconds, by what it was: ``list``, ``domstate``, ``dominfo`` (as virsh took the time), ``virsh`` (a
            whole round of them, connection and all), ``silence`` (the guest's longest).
        looks: how often each was looked at; ``pulse``: how often the guest was heard.
        faults: what is wrong, as far as it is known.
    """

    def __init__(self, guest: Guest, *hosts: Host, answer_s: float = ANSWER_S, still_s: float = STILL_S) -> None:
        self._guest, self._hosts = guest, hosts or (guest.here,)
        self._answer_s, self._still_s = answer_s, still_s
        self.worst: dict[str, float] = {}
        self.looks: Counter[str] = Counter()
        self.faults: list[str] = []
        self._expected = Expectation(Place.HERE, guest.here, "")
        self._over = threading.Event()
        self._began = time.monotonic()
        self._threads = [
            threading.Thread(target=self._guarded, args=(watch,), daemon=True)
            for watch in (self._watch_pulse, self._watch_libvirt)
        ]

    def __enter__(self) -> Self:
        self._begin_pulse()
        self._settle()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._see_once_more()
        except TimeoutError as late:
            self._fault(str(late))
        self._over.set()
        for thread in self._threads:
            thread.join(3 * self._answer_s)
        with contextlib.suppress(Exception):  # it may be gone, as the test wanted
            self._guest.shell(f"rm -f {_FILES}-*")
        print(self)
        if not self.faults:
            return
        complaints = "\n".join([str(self), *self.faults])
        if error is None:
            raise AssertionError(complaints)
        error.add_note(complaints)

    def __str__(self) -> str:
        worst = ", ".join(f"{what} {seconds:.3f} s (of {self.looks[what]})" for what, seconds in self.worst.items())
        return f"vigil of {self._guest.name}, worst in {time.monotonic() - self._began:.0f} s: {worst}"

    # --- what the test tells

    @contextlib.contextmanager
    def libvirtd_broken(self, *hosts: Host) -> Iterator[None]:
        """While the test has broken the libvirtd of these hosts (of all, without any): the guest is watched on."""
        before = self._expected.broken
        self._expected = replace(self._expected, broken=before | {host.name for host in hosts or self._hosts})
        try:
            yield
        finally:
            self._expected = replace(self._expected, broken=before)

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """While the guest migrates; it runs all the time, and is on ``guest.host`` afterwards."""
        self._expected = replace(self._expected, place=Place.MOVING)
        try:
            yield
        finally:
            self._settle()

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """While the guest is paused, saved, or started anew; afterwards it runs, in whichever QEMU process."""
        self._expected = replace(self._expected, place=Place.STANDING)
        yield
        self._begin_pulse()
        self._settle()

    def _begin_pulse(self) -> None:
        file = f"{_FILES}-{time.monotonic_ns()}"
        self._guest.shell(f"rm -f {_FILES}-*; touch {file}; {_PULSES.format(file=file, pulse=_PULSE)}")

    def _settle(self) -> None:
        """From now on it is to stay where it is."""
        here = self._guest.here
        self._expected = replace(self._expected, place=Place.HERE, host=here, qemu=identify_qemu(here, self._guest))

    def _see_once_more(self) -> None:
        """After the last harm, too, everything must be seen to be right once."""
        before = self.looks.copy()

        def seen() -> bool:
            expected = self._expected
            fine = {host.name for host in self._hosts} - expected.broken
            wanted = {
                "pulse": expected.place is not Place.STANDING,
                "virsh": bool(fine),
                "dominfo": expected.place is Place.HERE and expected.host.name in fine,
            }
            return bool(self.faults) or all(self.looks[what] > before[what] for what in wanted if wanted[what])

        wait_for(seen, 2 * (self._answer_s + self._still_s), "the vigil's last look")

    # --- what it sees

    def _guarded(self, watch: Callable[[], None]) -> None:
        try:
            watch()
        except Exception as error:  # a watch that ended would let everything pass
            self._fault(f"the vigil itself failed: {type(error).__name__}: {error}")

    def _fault(self, text: str) -> None:
        self.faults.append(f"{time.monotonic() - self._began:.2f} s: {text}")

    def _note(self, what: str, seconds: float) -> None:
        self.looks[what] += 1
        self.worst[what] = max(seconds, self.worst.get(what, 0.0))

    def _watch_pulse(self) -> None:
        count, last, limit_s = self._count_pulses(), time.monotonic(), self._still_s
        while not self._over.wait(_LOOK_PAUSE_S):
            expected, now, seen = self._expected, time.monotonic(), self._count_pulses()
            if seen != count or expected.place is Place.STANDING:
                self.looks["pulse"] += seen > count
                count, last, limit_s = seen, now, self._still_s
            elif now - last > limit_s:
                self._fault(f"the guest has said nothing for {now - last:.1f} s")
                limit_s *= 2
            self._note("silence", now - last)
            self._judge_qemu(expected)

    def _judge_qemu(self, expected: Expectation) -> None:
        if expected.place is not Place.HERE:
            return
        found = identify_qemu(expected.host, self._guest)
        if found != expected.qemu and expected is self._expected:
            self._fault(f"QEMU was {expected.qemu!r} on {expected.host.name}, and is {found!r}")
            self._expected = replace(expected, qemu=found)

    def _count_pulses(self) -> int:
        return self._guest.serial_log.read_bytes().count(_PULSE.encode())

    def _watch_libvirt(self) -> None:
        while not self._over.wait(_ROUND_PAUSE_S):
            for host in self._hosts:
                expected = self._expected
                if host.name not in expected.broken:
                    self._ask(host, expected)

    def _ask(self, host: Host, expected: Expectation) -> None:
        """One round of commands on one host, as a user would give them."""
        own = host is expected.host and expected.place is Place.HERE
        name = self._guest.name
        script = f"list; domstate {name}; dominfo {name}" if own else "list"
        argv = ["virsh", "--quiet", "--timing", "--connect", "qemu:///system", script]
        began = time.monotonic()
        try:
            done = host.run(argv, timeout_s=2 * self._answer_s, check=False)
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(argv, 1, "", "no answer")
        took_s = time.monotonic() - began
        if expected is self._expected:
            self._judge(host, took_s, done, own)

    def _judge(self, host: Host, took_s: float, done: subprocess.CompletedProcess[str], own: bool) -> None:
        self._note("virsh", took_s)
        for what, milliseconds in zip(_COMMANDS, _TIME.findall(done.stdout), strict=False):
            self._note(what, float(milliseconds) / 1000)
        said = done.stdout + done.stderr
        if done.returncode != 0:
            self._fault(f"virsh on {host.name} failed after {took_s:.1f} s: {said}")
        elif own and "\nrunning" not in said:
            self._fault(f"the guest does not run on {host.name}: {said}")
        if took_s > self._answer_s:
            self._fault(f"virsh on {host.name} took {took_s:.1f} s: {said}")


def identify_qemu(host: Host, guest: Guest) -> str:
    """The guest's QEMU process there: process id (as that host sees it) and start time; empty when there is none."""
    try:
        pid = host.path(f"/run/libvirt/qemu/{guest.name}.pid").read_text().strip()
        status = host.path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else f"{pid} {fields[19]}"
