"""Walks a journey (`tests.soak.plan`) with real guests among real hosts, and judges everything after each step."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.guest import Guest
from tests.lab.guest_qga import qga_release
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.soak_deeds import Deeds
from tests.lab.soak_figures import Figures
from tests.lab.soak_panics import Panics
from tests.lab.soak_sight import complain_of_host, complain_of_log, render_others, see
from tests.lab.waiting import wait_for
from tests.soak.judge import Before, judge
from tests.soak.plan import Step, first_world, follow
from tests.soak.world import expect

# To end what hangs. The longest that is right is a sixth write within a minute: see `STIRS_A_PROCESS`.
SETTLE_TIMEOUT_S = 90.0
LONG_WAIT_S = 5.0


class Walk:
    """See the module. While it is open `take` does a step; `journal` is written as it goes, for a post-mortem."""

    def __init__(self, seed: int, hosts: Sequence[Host], guests: Mapping[str, Guest], journal: Path) -> None:
        self._seed, self._hosts, self._guests = seed, {host.name: host for host in hosts}, guests
        self._journal = journal
        self._journal.write_text(f"seed {seed}\n")
        self._world = first_world(seed, qga_release(next(iter(guests.values()))))
        self._steps: list[Step] = []
        self._before: dict[str, Before] = {}
        self._agreed: list[str] = []
        self._waits: list[str] = []
        self._stack = ExitStack()
        self.figures = Figures(seed)
        self.vigils: dict[str, Vigil] = {}
        self._panics = Panics(guests)
        self._deeds = Deeds(self._hosts, guests, self.vigils)

    def __enter__(self) -> Self:
        """Judge the guests where they have started, and watch them from now on."""
        try:
            self._judge_all()
        except AssertionError as error:
            raise self._failed(error) from error
        self._waits.clear()
        with ExitStack() as stack:
            for name, guest in self._guests.items():
                # One of them watches all hosts' libvirtd; three that did would be most of what the machine does.
                hosts = self._hosts.values() if name == min(self._guests) else [guest.here]
                self.vigils[name] = stack.enter_context(Vigil(guest, *hosts))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch.

        Raises:
            AssertionError: a guest stood still, libvirt did not answer, or a daemon has grown.
        """
        try:
            self._stack.__exit__(kind, error, trace)
        except AssertionError as fault:
            raise self._failed(fault) from fault
        if error is None and self.figures.complaints():
            raise self._failed(*self.figures.complaints())

    def take(self, step: Step) -> None:
        """Do one step and judge.

        Raises:
            AssertionError: something is not as it should be; the message has the way to replay it.
        """
        self._steps.append(step)
        began = time.monotonic()
        try:
            done = self._attempt(step)
        except Exception as error:
            raise self._failed(error) from error
        self._note(step, done - began, time.monotonic() - done)

    def _attempt(self, step: Step) -> float:
        """Do and judge it; the time in between."""
        before, self._world = self._world, follow(self._world, step)
        try:
            self._deeds.do(step, before)
            done = time.monotonic()
            self._judge_all()
        except Exception as error:
            self._revive(error)
            done = time.monotonic()
            self._judge_all()
        return done

    def _revive(self, error: Exception) -> None:
        """Guests whose kernel has panicked begin anew where the plan has them.

        Raises:
            Exception: `error`, when none has, or too many have.
        """
        panicked = self._panics.take(len(self._steps))
        if not panicked:
            raise error
        self._deeds.start_missing_daemons(self._world)
        for name in panicked:
            state = self._world.guests[name].begin_anew()
            self._deeds.begin_anew(name, state.host)
            self._world = self._world.with_guest(name, state)
            self.vigils[name].faults.clear()
            self._waits.append(f"       {name}'s kernel has panicked; it begins anew on {state.host}")

    def _note(self, step: Step, took_s: float, settled_s: float) -> None:
        self.figures.note_step(step, took_s, settled_s)
        times = [f"{took_s:.2f} s", f"judged in {settled_s:.2f} s", *self._agreed]
        self._write("\n".join([f"{len(self._steps):4d} {step}  ({', '.join(times)})", *self._waits]))
        self._agreed.clear()
        self._waits.clear()

    def report(self) -> str:
        """What was measured; also at the journal's end."""
        text = self.figures.report(self._hosts.values(), self.vigils.values())
        text += f"\nguests whose kernel panicked: {self._panics.number}"
        self._write(text)
        return text

    def _write(self, text: str) -> None:
        with self._journal.open("a") as journal:
            journal.write(text + "\n")

    def _judge_all(self) -> None:
        for name in self._guests:
            self._judge(name)
        for host in self._hosts.values():
            self._require(partial(self._complain_of_host, host))
            self.figures.sample(host, len(self._world.at(host.name)))
        faults = [f"{name}: {fault}" for name, vigil in self.vigils.items() for fault in vigil.faults]
        assert not faults, "\n".join(faults)

    def _judge(self, name: str) -> None:
        """Wait until nothing is wrong with this guest, and keep what was seen then."""
        expected, before = expect(self._world, name), self._before.get(name)
        others, seen = render_others(expected.state.note), []

        def complain() -> list[str]:
            try:
                seen.append(see(self._guests[name]))
            except OSError as error:  # a guest on a busy machine may be slow to answer
                return [f"{name}: {error}"]
            return [f"{name} on {expected.state.host}: {text}" for text in judge(expected, seen[-1], before, others)]

        self._require(complain)
        record = seen[-1].live
        if record is not None and (before is None or before.expected.state.process != expected.state.process):
            self._agreed.extend(self.figures.note_arrival(expected.state, record))
        self._before[name] = Before(expected, seen[-1])

    def _require(self, complain: Callable[[], list[str]]) -> None:
        """Wait until there is no complaint; a long wait's last ones go into the journal.

        Raises:
            AssertionError: there still is one; the message has the last ones.
        """
        last: list[str] = []
        began = time.monotonic()

        def content() -> bool:
            complaints = complain()
            last[:] = complaints or last
            return not complaints

        try:
            wait_for(content, SETTLE_TIMEOUT_S, "everything to be right", interval_s=0.1)
        except TimeoutError:
            raise AssertionError("\n".join(last)) from None
        if last and time.monotonic() - began > LONG_WAIT_S:
            self._waits.append(f"       until then, for {time.monotonic() - began:.1f} s: " + "; ".join(last))

    def _complain_of_host(self, host: Host) -> list[str]:
        return [*complain_of_host(host, self._world.at(host.name), self._guests), *complain_of_log(host)]

    def _failed(self, *faults: object) -> AssertionError:
        """What went wrong, how to have it again, and all steps so far."""
        number = len(self._steps)
        variables = f"SIDECAR_SOAK_SEED={self._seed} SIDECAR_SOAK_STEPS={number}"
        plan = [f"{number:4d} {step}" for number, step in enumerate(self._steps, 1)]
        text = "\n".join(
            [
                f"seed {self._seed}, step {number}; again with",
                f"    {variables} contrib/test tests/lab/test_soak.py -k short",
                *map(str, faults),
                "so far:",
                *plan,
            ]
        )
        self._write(text)
        return AssertionError(text)
