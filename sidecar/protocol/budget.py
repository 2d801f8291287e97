"""How often something may happen: at most so many times in any window of time."""

from collections import deque

# A guest may restart its agent, flap its version or its port as fast as it likes; six verdicts, refreshes or questions
# a minute are more than any honest agent needs, and few enough for an XML write each.
RENEGOTIATION_LIMIT = 6
RENEGOTIATION_WINDOW_S = 60.0


class Budget:
    """At most ``limit`` uses in any ``window_s`` seconds; time is passed in (monotonic seconds)."""

    __slots__ = ("_uses", "_window_s")

    def __init__(self, limit: int, window_s: float) -> None:
        self._uses: deque[float] = deque(maxlen=limit)
        self._window_s = window_s

    def next_free(self) -> float:
        """The time from which one more use is allowed; in the past (or ``-inf``) when it is allowed already."""
        if len(self._uses) < (self._uses.maxlen or 0):
            return float("-inf")
        return self._uses[0] + self._window_s

    def take(self, now: float) -> bool:
        """Use it once if that is allowed; says whether it was."""
        if now < self.next_free():
            return False
        self.note(now)
        return True

    def note(self, now: float) -> None:
        """It was used, whether it was allowed or not."""
        self._uses.append(now)

    def used(self, now: float) -> int:
        """How many uses the window that ends now holds."""
        return sum(1 for use in self._uses if use > now - self._window_s)
