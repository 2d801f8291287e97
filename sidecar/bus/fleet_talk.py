"""What the hosts of a fleet say to each other: who they are, that one is to be forgotten, and summaries on demand.

One thread says what this host has to say, since it may wait for a broker; another answers who asks for summaries, and
whoever does that all the time delays nothing else. What is heard comes by a thread of oslo.messaging's, one message
after the other. Nothing that another host says is believed here but its shape and size: the daemon judges the rest.

Source: docs/bus.md; ``fleet_agenda`` for when what is said.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping
from queue import Empty, Full, Queue
from typing import Any

from sidecar.api.link import Word
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus.fleet_agenda import Cast, FleetAgenda
from sidecar.bus.heard_offers import HeardOffers
from sidecar.bus.message_values import SUMMARY_LIMIT_BYTES, read_document, read_name, read_seconds, read_token
from sidecar.bus.rounds import Rounds
from sidecar.errors import BusDownError

logger = logging.getLogger(__name__)

# What is to be said, and who wants to know something, while the broker or the daemon takes its time.
QUEUE_LIMIT = 256
# A probe that the broker takes later shows nothing any more.
PROBE_S = 30.0
# Who asks for summaries all the time gets the same for so long.
SUMMARY_AGE_S = 0.25
# At what is said in time or not at all: a connection that broke meanwhile takes one to show it.
ATTEMPTS = 3
# Between lines about what no host of ours says.
COMPLAINT_S = 60.0

_TOO_OLD = frozenset({ProblemCode.UNSUPPORTED_VERSION, ProblemCode.UNKNOWN_OPERATION})


class FleetTalk:
    """See the module; for any thread.

    Attributes:
        hostname: This host's.
    """

    def __init__(
        self,
        hostname: str,
        cast: Callable[[Cast], None],
        tell: Callable[..., None],
        summarize: Callable[[], Any],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is said before ``start``.

        Args:
            hostname: This host's.
            cast: Says something; may wait, and fail.
            tell: Says something to the daemon (``LinkEnd.send``).
            summarize: Asks the daemon for its summary; raises ``ProblemError`` or ``TimeoutError``.
            changed: ``connected`` may be another now.
        """
        self.hostname = hostname
        self._cast, self._tell, self._summarize, self._changed = cast, tell, summarize, changed
        self._agenda = FleetAgenda(hostname, secrets.token_hex(8), random.uniform)
        self._heard = HeardOffers()
        self._rounds = Rounds()
        self._lock = threading.Lock()
        # Each with when it need not be said any more; ``None`` only wakes the thread.
        self._casts: Queue[tuple[Cast, float] | None] = Queue(QUEUE_LIMIT)
        self._askers: Queue[tuple[str, str]] = Queue(QUEUE_LIMIT)
        self._complained_at: float | None = None

    def start(self) -> None:
        """Speak up: this host hears the fleet from now on."""
        with self._lock:
            self._agenda.start(time.monotonic())
        for run in (self._speak, self._answer):
            threading.Thread(target=run, name=f"fleet{run.__name__}", daemon=True).start()

    # For the daemon.

    @property
    def connected(self) -> bool:
        """See ``api.link.BusStatus``."""
        with self._lock:
            return self._agenda.is_connected(time.monotonic())

    def change_offer(self, offer: Mapping[str, Any], *, announce: bool = True) -> None:
        """This host offers this; every host is told, also what is not new, unless nothing is to be announced."""
        with self._lock:
            self._agenda.change_offer(offer, time.monotonic(), announce=announce)
        self._wake()

    def begin_probe(self) -> str:
        """Send something over the broker to ourselves; ``end_probe`` tells whether it came."""
        number = self._rounds.begin()
        self._say(Cast(self.hostname, "ping", {"token": number}), PROBE_S)
        return number

    def end_probe(self, number: str) -> bool:
        """Whether it has come; once."""
        try:
            self._rounds.finish(number, 0.0)
        except TimeoutError:
            return False
        return True

    def forget(self, hostname: str, timeout_s: float) -> None:
        """Have every host forget one.

        Raises:
            BusDownError: Nobody was told, nor will be.
            TimeoutError: The broker does not answer; nobody knows whether it was told.
        """
        number = self._rounds.begin()
        self._ask_all(number, Cast(None, "forget", {"hostname": hostname, "token": number}, patient=False), timeout_s)

    def collect(self, expected: Collection[str], timeout_s: float) -> list[Any]:
        """The other hosts' summaries: when all that are expected came, or else after the time. Raises likewise."""
        number = self._rounds.begin(expected)
        cast = Cast(None, "collect", {"id": number, "reply_to": self.hostname}, patient=False)
        return self._ask_all(number, cast, timeout_s)

    def _ask_all(self, number: str, cast: Cast, timeout_s: float) -> list[Any]:
        if not self._say(cast, timeout_s):
            self.end_probe(number)
            raise BusDownError("the broker does not take what was said before, and nothing was asked")
        return self._rounds.finish(number, timeout_s)

    # From the other hosts.

    def receive(self, method: str, values: Mapping[str, Any]) -> None:
        """A message: one of ``METHODS``, with whatever anybody sent."""
        try:
            _RECEIVERS[method](self, values)
        except ValueError as error:
            self._complain(f"{method}: {error}")

    def _receive_announce(self, values: Mapping[str, Any]) -> None:
        offer = read_document(values, "offer")
        name = read_name(offer, "hostname")
        token = None if values.get("token") is None else read_token(values, "token")
        if name == self.hostname:
            return self._receive_own(offer, token)
        if values.get("answer_to") is not None:
            if read_name(values, "answer_to") != name:
                raise ValueError("answer_to is not the host itself")
            away_s = read_seconds(values, "away_s")
            with self._lock:
                self._agenda.receive_greeting(name, token or "", away_s, time.monotonic())
            self._wake()
        elif token is not None and token != self._agenda.token:
            # The answer to a process that ran here before: it lay in our queue, who knows for how long.
            return None
        self._hear(name, offer)
        return None

    def _receive_own(self, offer: Mapping[str, Any], token: str | None) -> None:
        with self._lock:
            own = self._agenda.offer
            is_own = own is not None and offer.get("host_uuid") == own.get("host_uuid")
            if is_own:
                self._agenda.receive_own_announcement(offer, token, time.monotonic())
        if is_own:
            self._changed()
        else:
            # Another machine of our name: the daemon has to tell somebody.
            self._hear(self.hostname, offer)

    def _hear(self, name: str, offer: Mapping[str, Any]) -> None:
        with self._lock:
            is_new = self._heard.hear(name, offer, time.monotonic())
            self._agenda.hosts = len(self._heard)
            is_held = self._heard.deadline is not None
        if is_new:
            self._tell(Word.SEEN, offer=offer)
        elif is_held:
            self._wake()

    def _receive_ping(self, values: Mapping[str, Any]) -> None:
        token = read_token(values, "token")
        if token == self._agenda.token:
            self._note_echo()
        else:
            self._rounds.receive_echo(token)

    def _receive_collect(self, values: Mapping[str, Any]) -> None:
        number, asker = read_token(values, "id"), read_name(values, "reply_to")
        if asker == self.hostname:
            self._rounds.receive_echo(number)
            self._note_echo()
            return
        try:
            self._askers.put_nowait((number, asker))
        except Full:
            raise ValueError("more than can be answered") from None

    def _receive_collected(self, values: Mapping[str, Any]) -> None:
        summary = read_document(values, "summary", SUMMARY_LIMIT_BYTES)
        name = read_name(read_document(summary, "host"), "hostname")
        if name != self.hostname:
            self._rounds.receive_answer(read_token(values, "id"), name, summary)

    def _receive_forget(self, values: Mapping[str, Any]) -> None:
        hostname, token = read_name(values, "hostname"), read_token(values, "token")
        with self._lock:
            self._heard.forget(hostname)
            if hostname == self.hostname:
                self._agenda.receive_own_forgetting(time.monotonic())
        self._wake()
        self._tell(Word.FORGOTTEN, hostname=hostname)
        self._rounds.receive_echo(token)

    def _note_echo(self) -> None:
        with self._lock:
            self._agenda.receive_echo(time.monotonic())
        self._changed()

    def _complain(self, what: str) -> None:
        now = time.monotonic()
        if self._complained_at is None or now - self._complained_at >= COMPLAINT_S:
            self._complained_at = now
            logger.warning("the message bus brought what no host of the fleet says (told once a minute): %s", what)

    # The threads.

    def _say(self, cast: Cast, within_s: float) -> bool:
        """Whether it will be said, if the broker takes it by then."""
        try:
            self._casts.put_nowait((cast, time.monotonic() + within_s))
        except Full:
            logger.debug("%s is not said: the broker does not take what was said before", cast.method)
            return False
        return True

    def _wake(self) -> None:
        try:
            self._casts.put_nowait(None)
        except Full:
            logger.debug("it is awake, or waits for the broker")

    def _speak(self) -> None:
        while True:
            for cast in self._take_due():
                self._try_cast(cast)
            try:
                item = self._casts.get(timeout=self._measure_rest_s())
            except Empty:
                continue
            if item is not None:
                self._speak_in_time(*item)

    def _speak_in_time(self, cast: Cast, deadline: float) -> None:
        """Say it, but not later; where that matters the way to the broker is tried first, by what hurts nobody."""
        for _ in range(ATTEMPTS):
            if not cast.patient and time.monotonic() < deadline:
                self._try_cast(Cast(self.hostname, "ping", {"token": self._agenda.token}))
            if time.monotonic() >= deadline or self._try_cast(cast):
                return

    def _take_due(self) -> list[Cast]:
        now = time.monotonic()
        with self._lock:
            casts, offers = self._agenda.take_due(now), self._heard.take_due(now)
        for offer in offers:
            self._tell(Word.SEEN, offer=offer)
        return casts

    def _measure_rest_s(self) -> float | None:
        with self._lock:
            times = [time for time in (self._agenda.deadline, self._heard.deadline) if time is not None]
        return max(min(times) - time.monotonic(), 0.0) if times else None

    def _try_cast(self, cast: Cast) -> bool:
        try:
            self._cast(cast)
        except Exception as error:
            # What matters is said again; and that there is no connection is said elsewhere.
            logger.debug("%s was not said: %s", cast.method, error)
            return False
        return True

    def _answer(self) -> None:
        summary: Any = None
        taken_at = float("-inf")
        while True:
            number, asker = self._askers.get()
            try:
                if time.monotonic() - taken_at > SUMMARY_AGE_S:
                    summary, taken_at = self._take_summary(), time.monotonic()
            except (ProblemError, TimeoutError) as error:
                logger.debug("no summary for %s: %s", asker, error)
            else:
                self._try_cast(Cast(asker, "collected", {"id": number, "summary": summary}))

    def _take_summary(self) -> Any:
        """The daemon's; of one that serves an API without summaries, what it offers."""
        try:
            return self._summarize()
        except ProblemError as error:
            with self._lock:
                offer = self._agenda.offer
            if error.problem.code not in _TOO_OLD or offer is None:
                raise
            return {"host": offer, "guests": None, "oldest": {}}


_RECEIVERS: Mapping[str, Callable[[FleetTalk, Mapping[str, Any]], None]] = {
    "announce": FleetTalk._receive_announce,
    "ping": FleetTalk._receive_ping,
    "collect": FleetTalk._receive_collect,
    "collected": FleetTalk._receive_collected,
    "forget": FleetTalk._receive_forget,
}
METHODS = tuple(_RECEIVERS)
