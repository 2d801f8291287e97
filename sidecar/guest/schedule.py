"""What is due when: periods as a value, one deadline, and things that are nearly due go along."""

from collections.abc import Mapping

# What would be due this soon is due now: a guest that wakes anyway need not wake again at once.
TOGETHER_S = 0.5

_INFINITY = float("inf")


class Schedule:
    """Names, each due at once and then each so many seconds; time is passed in (monotonic seconds)."""

    def __init__(self, periods_s: Mapping[str, float], now: float) -> None:
        """``periods_s`` has a period for each name; one of 0 is never due."""
        self._periods_s = {name: period for name, period in periods_s.items() if period > 0}
        self._due = dict.fromkeys(self._periods_s, now)

    @property
    def deadline(self) -> float:
        """When ``take_due`` has something next; infinity when nothing is ever due."""
        return min(self._due.values(), default=_INFINITY)

    def take_due(self, now: float) -> list[str]:
        """What is due now, each until its period is over again."""
        due = [name for name, at in self._due.items() if now >= at - min(TOGETHER_S, self._periods_s[name] / 2)]
        for name in due:
            self._due[name] = now + self._periods_s[name]
        return due
