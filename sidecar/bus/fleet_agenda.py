"""When this host says what to the fleet: pure, time (monotonic seconds) is told, and what is due is taken.

A host pings itself over the broker: what comes back shows that the whole way works. It greets the fleet when it comes,
and when there was a gap in which it may have missed something; a host answers a greeting with its own offer, if who
greets may not know it: when a broker was away all greet, and nobody has missed anything. It announces its offer when
that changes, and from time to time. A host hears its own announcements as all do: until then they are repeated, because
the broker may have lost them.

What all hosts say to all costs the square of their number, and all of it is late then: so the larger the fleet, the
longer is waited until something is said again.

Source: docs/bus.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PING_S = 10.0
# Without any echo for so long there is no connection: two pings may get lost.
SILENCE_S = 30.0
# More time than this between two echoes, and messages of others may have been lost in between.
GAP_S = 12.0
# Fleets are cut below this (docs/scale.md). More names may be somebody's invention, and nobody waits for those.
HOSTS_LIMIT = 1000
# A greeting is heard by all. Where that alone keeps them so busy that echoes are late, the next one waits.
GREET_AGAIN_HOST_S, GREET_AGAIN_FIRST_S = 3.0, 60.0
# Until an announcement that did not come back is repeated; twice as long each time, since all may do so at once.
REPEAT_HOST_S, REPEAT_FIRST_S, REPEAT_DOUBLINGS = 0.3, 10.0, 4
# What was news longer ago than a gap and this, who greets after the gap has heard before it.
NEWS_S = 120.0
# A change is announced once more after this: when a broker returns, some come back later than others.
AGAIN_S = 60.0
# Announcements without a reason, by each host: so rare that a host hears one in three seconds, within bounds.
REFRESH_HOST_S, REFRESH_FIRST_S, REFRESH_LIMIT_S = 3.0, 600.0, 6 * 3600.0
# After somebody had this host forgotten: everybody has heard that by then.
FORGOTTEN_S = 5.0
# All answers to a newcomer are spread so that the broker gets at most 200 a second.
SPREAD_HOST_S, SPREAD_LIMIT_S = 0.005, 10.0
# All greetings after a gap are spread so that a broker of at most 1,200 hosts has to deliver 5,000 a second.
GREETING_SPREAD_S, GREETING_SPREAD_LIMIT_S = 0.0002, 300.0
# So many greetings are answered one by one; more by one announcement to all.
ANSWERS_LIMIT = 8
# More that greet at once than a fleet has are made up.
ASKED_LIMIT = 16_384

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cast:
    """One message: to the host ``server``, or to all. ``patient``: it may come as late as the broker takes it."""

    server: str | None
    method: str
    values: Document
    patient: bool = True


class FleetAgenda:
    """See the module. ``draw`` gives a random number between two.

    Attributes:
        token: By which this process knows its own messages, and answers to them.
        hosts: How many others there are, as far as is known.
    """

    def __init__(self, hostname: str, token: str, draw: Callable[[float, float], float]) -> None:
        self.token, self.hosts = token, 0
        self._hostname, self._draw = hostname, draw
        self._offer: Document | None = None
        self._promised: Document | None = None
        self._ping_at: float | None = None
        self._greet_at: float | None = None
        self._greeted_at: float | None = None
        self._repeats = 0
        self._announce_at: float | None = None
        self._refresh_at: float | None = None
        self._answer_at: float | None = None
        self._asked: dict[str, str] = {}
        self._echo_at: float | None = None
        # Since when others' words may have been missed; and since when the others may know what is offered now.
        self._missed_since: float | None = None
        self._heard: Document | None = None
        self._news_at = math.inf

    @property
    def offer(self) -> Document | None:
        """This host's, once there is one."""
        return self._offer

    def is_connected(self, now: float) -> bool:
        """Whether something came back within ``SILENCE_S``."""
        return self._echo_at is not None and now - self._echo_at < SILENCE_S

    def start(self, now: float) -> None:
        """This host hears the fleet from now on."""
        self._ping_at = self._greet_at = now
        self._refresh_at = now + self._draw_refresh_s()

    def change_offer(self, offer: Document, now: float, *, announce: bool = True) -> None:
        """This host's offer is this one, and is to be said, even if it is the same as before.

        Without ``announce`` it is what is said from now on, when there is something to say.
        """
        self._offer = offer
        if announce:
            self._promised, self._announce_at = offer, now

    def receive_own_forgetting(self, now: float) -> None:
        """All were told to forget this host, which is there: some may hear that after what it says now.

        What it says next is news to all.
        """
        self._heard = None
        self._refresh_at = now + FORGOTTEN_S

    def receive_greeting(self, hostname: str, token: str, away_s: float | None, now: float) -> None:
        """A host greets, which may have missed what was said in the last ``away_s``; answered a little later.

        ``None``: it knows nobody.
        """
        if away_s is not None and now - self._news_at > away_s + NEWS_S:
            return
        if not self._asked:
            self._answer_at = now + self._draw_spread_s()
        if hostname in self._asked or len(self._asked) < ASKED_LIMIT:
            self._asked[hostname] = token

    def receive_echo(self, now: float) -> None:
        """Something of this process's came back."""
        if self._echo_at is not None and now - self._echo_at > GAP_S and self._greet_at is None:
            if self._greeted_at is None or self._echo_at - self._greeted_at > NEWS_S:
                self._missed_since = self._echo_at  # or else since before: the answers may not have come either
            self._greet_at = max(now + self._draw_greeting_spread_s(), self._may_greet_at)
        self._echo_at = now

    def receive_own_announcement(self, offer: Document, token: str | None, now: float) -> None:
        """An announcement of this host's came back."""
        self.receive_echo(now)
        self._repeats = 0
        if offer != self._heard:
            is_change = self._heard is not None and self._announce_at is not None
            if is_change and self._refresh_at is not None:
                self._refresh_at = min(self._refresh_at, now + AGAIN_S)
            self._heard, self._news_at = offer, now
        if token == self.token:
            self._greet_at, self._greeted_at = None, now
        if offer in (self._offer, self._promised):
            self._announce_at = None

    @property
    def deadline(self) -> float | None:
        """When ``take_due`` has something; ``None``: not before something happens."""
        if self._ping_at is None:
            return None
        times: list[float | None] = [self._ping_at]
        if self._offer is not None:
            times += [self._greet_at, self._announce_at, self._refresh_at, self._answer_at]
        return min(time for time in times if time is not None)

    def take_due(self, now: float) -> list[Cast]:
        """What is to be said now, in this order."""
        casts = []
        if _is_due(self._ping_at, now):
            self._ping_at = now + PING_S
            casts.append(Cast(self._hostname, "ping", {"token": self.token}))
        if self._ping_at is not None and self._offer is not None:
            casts += self._take_announcements(self._offer, now)
        return casts

    def _take_announcements(self, offer: Document, now: float) -> list[Cast]:
        if _is_due(self._refresh_at, now):
            self._refresh_at = now + self._draw_refresh_s()
            self._announce_at = now
        answers = self._take_answers(offer, now)
        if _is_due(self._greet_at, now):
            self._greet_at = now + self._repeat_s
            away_s = None if self._missed_since is None else now - self._missed_since
            values: Document = {"offer": offer, "answer_to": self._hostname, "token": self.token, "away_s": away_s}
        elif _is_due(self._announce_at, now):
            values = _announce(offer)
        else:
            return answers
        # A greeting is an announcement, too; and who greeted before hears either.
        self._announce_at = None if self._announce_at is None else now + self._repeat_s
        self._repeats = min(self._repeats + 1, REPEAT_DOUBLINGS)
        self._asked, self._answer_at = {}, None
        return [Cast(None, "announce", values)]

    def _take_answers(self, offer: Document, now: float) -> list[Cast]:
        if not _is_due(self._answer_at, now):
            return []
        asked, self._asked, self._answer_at = self._asked, {}, None
        if len(asked) > ANSWERS_LIMIT:
            return [Cast(None, "announce", _announce(offer))]
        return [Cast(name, "announce", _announce(offer, token)) for name, token in asked.items()]

    @property
    def _repeat_s(self) -> float:
        return float(max(REPEAT_HOST_S * self._believed_hosts, REPEAT_FIRST_S) * 2**self._repeats)

    @property
    def _believed_hosts(self) -> int:
        return min(self.hosts, HOSTS_LIMIT)

    @property
    def _may_greet_at(self) -> float:
        if self._greeted_at is None:
            return 0.0
        return self._greeted_at + max(GREET_AGAIN_HOST_S * self._believed_hosts, GREET_AGAIN_FIRST_S)

    def _draw_spread_s(self) -> float:
        return self._draw(0.0, min(SPREAD_HOST_S * self.hosts, SPREAD_LIMIT_S))

    def _draw_greeting_spread_s(self) -> float:
        return self._draw(0.0, min(GREETING_SPREAD_S * self.hosts**2, GREETING_SPREAD_LIMIT_S))

    def _draw_refresh_s(self) -> float:
        return self._draw(0.8, 1.2) * min(max(REFRESH_HOST_S * self.hosts, REFRESH_FIRST_S), REFRESH_LIMIT_S)


def _announce(offer: Document, token: str | None = None) -> Document:
    return {"offer": offer, "answer_to": None, "token": token}


def _is_due(time: float | None, now: float) -> bool:
    return time is not None and time <= now
