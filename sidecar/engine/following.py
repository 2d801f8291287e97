"""Following events of one domain, or of all; and waiting for one domain's record."""

import asyncio
from collections.abc import Callable

from sidecar.api.events import Event
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.views import DomainView
from sidecar.engine.bell import Bell
from sidecar.engine.event_log import Follower
from sidecar.engine.host import parse_uuid


class EventFilter:
    """A follower's events that concern a domain, or the daemon; an asynchronous iterator that never ends."""

    def __init__(self, follower: Follower, domain: str | None) -> None:
        """``domain`` is a name or a UUID; ``None``: all of them."""
        self._follower, self._domain = follower, domain
        self._uuid = None if domain is None else str(parse_uuid(domain))

    def __aiter__(self) -> "EventFilter":
        return self

    async def __anext__(self) -> Event:
        while not self._concerns(event := await anext(self._follower)):
            pass
        return event

    def take(self) -> Event | None:
        """The next event, when there is one already."""
        while (event := self._follower.take()) is not None:
            if self._concerns(event):
                return event
        return None

    def _concerns(self, event: Event) -> bool:
        return self._domain is None or event.domain is None or event.domain == self._domain or event.uuid == self._uuid


class Wish:
    """What somebody waits for: a domain's record of this arrival, with a state of its channels.

    Without a channel's name one channel of each dialect that the domain has must be in the state: of oVirt's two
    channels only one ever agrees.
    """

    def __init__(self, domain: str, state: str, channel: str | None, look: Callable[[], DomainView | None]) -> None:
        """``look`` gives the domain as it is now; ``None`` while it does not run here."""
        self._domain, self._state, self._channel, self._look = domain, state, channel, look

    async def come_true(self, bell: Bell, timeout_s: float) -> DomainView:
        """Return as soon as it is so; ``bell`` rings whenever it may be.

        Raises:
            ProblemError: Not within ``timeout_s``, or the domain has no such channel.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while (view := self._look()) is None or not self._holds(view):
                    await bell.wait()
                return view
        except TimeoutError:
            raise self._explain(timeout_s) from None

    def _holds(self, view: DomainView) -> bool:
        if view.arrival is None:
            return False
        rows = [row for row in view.channels if self._channel in (None, row.name)]
        if not rows:
            which = "guest-agent channel" if self._channel is None else f"channel {self._channel!a}"
            raise ProblemError(ProblemCode.CHANNEL_NOT_FOUND, f"domain {view.name!a} has no {which}")
        reached = {row.dialect for row in rows if row.state == self._state}
        return view.recorded and reached == {row.dialect for row in rows}

    def _explain(self, timeout_s: float) -> ProblemError:
        view = self._look()
        if view is None:
            text = f"no domain {self._domain[:255]!a} came to run here within {timeout_s:g} s"
            return ProblemError(ProblemCode.DOMAIN_NOT_FOUND, text)
        if view.arrival is None:
            why = "its guest has not arrived"
        else:
            rows = [row for row in view.channels if self._channel in (None, row.name)]
            told = [f"{row.name} is {row.state}" + (f" ({row.reason})" if row.reason else "") for row in rows]
            why = "; ".join(told) + ("" if view.recorded else "; it is being negotiated anew, or not on record yet")
        text = f"domain {view.name!a} is not {self._state} within {timeout_s:g} s: {why}"
        return ProblemError(ProblemCode.NOT_IN_TIME, text)
