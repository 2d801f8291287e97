"""What both dialects make of a guest that changes its mind too often: a budget of verdicts, and a word on it.

Source: docs/protocol.md; docs/problems.md, ``flapping``.
"""

from sidecar.protocol.budget import RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S, Budget
from sidecar.protocol.states import Reason

_INFINITY = float("inf")

# While a guest flaps, these would come and go with it.
_HIDDEN = (None, Reason.NOT_HEARD, Reason.AGENT_RESTARTED, Reason.INFERRED)


class Flapping:
    """One session's; times are the session's seconds."""

    __slots__ = ("_budget", "_until")

    def __init__(self) -> None:
        self._budget = Budget(RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S)
        self._until = -_INFINITY

    def take(self, now: float) -> bool:
        """Use one verdict or question; says whether there was one left."""
        return self._budget.take(now)

    def next_free(self) -> float:
        """From when on there is one."""
        return self._budget.next_free()

    def note(self, now: float) -> None:
        """The guest flaps, and counts as one that does for a while."""
        self._until = now + RENEGOTIATION_WINDOW_S

    def cover(self, reason: Reason | None, now: float) -> Reason | None:
        """The reason to be shown in place of this one."""
        return Reason.FLAPPING if reason in _HIDDEN and now < self._until else reason

    def deadline(self, now: float) -> float:
        """When it is over; infinity when it is."""
        return self._until if now < self._until else _INFINITY
