"""The agent's loop: port, session, facts, programs, in one thread that sleeps until one of them has something."""

import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sidecar.guest.commands import Commands
from sidecar.guest.configuration import Configuration
from sidecar.guest.facts import Facts
from sidecar.guest.hooks import Hooks, LifecycleEvent
from sidecar.guest.port import Port, Presence
from sidecar.guest.programs import Programs
from sidecar.guest.reports import Reports
from sidecar.protocol.bad_input import BadInput
from sidecar.protocol.budget import Budget
from sidecar.protocol.ovirt_agent import AgentEvent, AgentSession, CommandReceived, RefreshReceived, VersionChanged

logger = logging.getLogger(__name__)

# An honest host wants something a few times a day.
COMMAND_LIMIT = 60
COMMAND_WINDOW_S = 60.0

# Pieces that are read in a row before the rest of the loop has its turn: a host that never stops must not starve it.
READS_LIMIT = 16

_INFINITY = float("inf")


class Agent:
    """One process of the agent; ``run`` serves until ``SIGTERM`` or ``SIGINT``."""

    def __init__(self, configuration: Configuration, paths: Sequence[str], reports: Reports) -> None:
        """``paths`` are the ports: the first that can be opened is taken."""
        now = time.monotonic()
        self._epoll = select.epoll()
        self._port = Port(paths, self._epoll)
        self._session = AgentSession(heartbeat_s=configuration.rates.heartbeat_seconds, now=now)
        self._facts = Facts(self._session, reports, configuration.rates, now)
        self._programs = Programs(self._epoll)
        self._commands = Commands(configuration.commands, configuration.command_s, self._programs)
        self._hooks = Hooks(configuration.hooks_directory, configuration.hooks_s, self._programs)
        self._budgets: dict[str, Budget] = {}
        self._to_look_at: list[Callable[[], None]] = []
        self._unread_events = 0
        self._retry_at = now
        self._stopping = False

    # The loop.

    def run(self) -> None:
        """Serve; returns after a clean stop, which has told the host so if one was there to hear it."""
        with _woken_by_signals(self._epoll, self._stop) as signals:
            self._epoll.register(self._facts.fd, select.EPOLLIN)
            while True:
                self._work(time.monotonic())
                if self._stopping:
                    break
                for fd, events in self._epoll.poll(self._sleep_s()):
                    self._handle(fd, events, signals)
        self._leave()

    def _stop(self) -> None:
        self._stopping = True

    def _sleep_s(self) -> float | None:
        if self._unread_events:
            return 0
        deadlines = [self._session.deadline, self._programs.deadline]
        if self._port.presence is Presence.CLOSED:
            deadlines.append(self._retry_at)
        elif self._port.presence is Presence.HOST:
            deadlines.append(self._facts.deadline)
        deadline = min(deadlines)
        return None if deadline == _INFINITY else max(0.0, deadline - time.monotonic())

    def _work(self, now: float) -> None:
        """What time brings, and what has to be written."""
        self._programs.tick(now)
        if self._port.presence is Presence.CLOSED and now >= self._retry_at:
            self._retry_at = now + self._port.next_retry_s()  # also when it opens: it may be gone again at once
            self._port.open()
            self._note_presence()
        if self._unread_events:
            self._serve_port(self._unread_events)
        if self._port.presence is Presence.HOST:
            self._facts.look_at_due(now)
        if now >= self._session.deadline:
            self._facts.look_at_memory(now)
            for event in self._session.tick(now):
                self._follow(event)
        self._write()
        while self._to_look_at:  # after the answer, which the other thread would hold up
            self._to_look_at.pop()()

    def _handle(self, fd: int, events: int, signals: int) -> None:
        if fd == self._port.fd:
            self._serve_port(events)
        elif fd == self._facts.fd:
            self._facts.tell_found()
        elif fd == signals:
            os.read(signals, 4096)
        else:
            self._programs.reap(fd)

    # The port.

    def _serve_port(self, events: int) -> None:
        self._unread_events = 0
        if self._port.presence is Presence.CLOSED:
            return
        for _ in range(READS_LIMIT):
            data = self._port.receive(events)
            if self._port.presence is Presence.HOST:
                self._note_presence()  # before its words, as it came; that it left comes after them
            for event in self._session.receive_data(data, time.monotonic()):
                self._follow(event)
            self._note_presence()
            if not data:
                self._port.flush()
                return
        self._unread_events = events

    def _write(self) -> None:
        while self._port.sendable and (data := self._session.data_to_send()):
            self._port.write(data)
        self._note_presence()

    def _note_presence(self) -> None:
        """Tell the session of a host that came or left, once."""
        now, here = time.monotonic(), self._port.presence is Presence.HOST
        if here and not self._session.host_here:
            logger.info("a host is there; API version %d in force", self._session.version)
            self._facts.look_at_memory(now)
            self._session.host_came(now)
        elif not here and self._session.host_here:
            logger.info("no host is there")
            self._session.host_left(now)

    # What the host wants.

    def _follow(self, event: AgentEvent) -> None:
        match event:
            case RefreshReceived():
                self._to_look_at.append(lambda: self._facts.look_for_news(time.monotonic()))
            case VersionChanged(version=version, before=before):
                logger.info("API version %d in force, was %d", version, before)
                self._to_look_at.append(self._facts.look_at_cpus)  # what no refresh sends, and version 0 did not have
            case CommandReceived(name=name, arguments=arguments):
                self._obey(name, arguments)
            case BadInput(code=code, detail=detail):
                logger.warning("bad input, further like it are only counted: %s: %s", code, detail)

    def _obey(self, name: str, arguments: Mapping[str, Any]) -> None:
        budget = self._budgets.setdefault(name, Budget(COMMAND_LIMIT, COMMAND_WINDOW_S))
        if not budget.take(time.monotonic()):
            logger.warning("%s: refused: more than %d a minute", name, COMMAND_LIMIT)
            if name == "lifecycle-event":
                self._complete(arguments)
        elif name == "lifecycle-event":
            self._run_hooks(arguments)
        elif name == "set-number-of-cpus":
            self._commands.run(name, arguments, self._facts.look_at_cpus)
        else:
            self._commands.run(name, arguments)

    def _run_hooks(self, arguments: Mapping[str, Any]) -> None:
        kind, failure = arguments.get("type"), arguments.get("failure")
        event = LifecycleEvent(kind if isinstance(kind, str) else "", failure is True)
        self._hooks.run(event, lambda: self._complete(arguments))

    def _complete(self, arguments: Mapping[str, Any]) -> None:
        """Answer the host that waits; nobody does where there is no ``reply_id``."""
        reply_id = arguments.get("reply_id")
        if reply_id is None:
            return
        if self._session.allows("completion"):
            self._session.send("completion", {"reply_id": reply_id, "done": True})
            self._write()  # a host may wait for more of them than may be pending
        else:
            logger.info("no completion is sent: API version %d in force", self._session.version)

    def _leave(self) -> None:
        self._hooks.close()
        self._session.send("session-shutdown")
        self._write()
        self._port.close()
        self._programs.close()


@contextlib.contextmanager
def _woken_by_signals(epoll: select.epoll, stop: Callable[[], None]) -> Iterator[int]:
    """While SIGTERM and SIGINT call ``stop``: a descriptor that becomes readable when one of them came."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop())
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    epoll.register(reader, select.EPOLLIN)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        os.close(writer)
        os.close(reader)
