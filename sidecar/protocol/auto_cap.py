"""The cap ``"auto"``: the lowest version that a host of the fleet supports, so that no guest agrees to more.

Lowered at once, raised late: a host that is away for a moment must not have every guest negotiate twice.

Source: docs/configuration.md, ``[upgrade_levels]``; nova's ``[upgrade_levels] compute = auto``.
"""

from typing import Generic

from sidecar.protocol.host_offer import VersionT

# How long the fleet must have supported more, unchanged, and in our sight, before the cap rises.
RAISE_S = 3600.0

_INFINITY = float("inf")


class AutoCap(Generic[VersionT]):
    """One dialect's; times are the caller's seconds.

    ``cap`` is what the other hosts leave in force; ``None``: they leave everything. What this host itself supports is
    no part of it: it is known at any moment, and an upgrade of this host, or a pin that is lifted, needs no hour.
    """

    __slots__ = ("_since", "_target", "cap")

    def __init__(self, cap: VersionT | None = None) -> None:
        """``cap`` is the one that was in force before a restart."""
        self.cap: VersionT | None = cap
        self._target: VersionT | None = None
        self._since = _INFINITY

    def follow(self, lowest: VersionT | None, now: float, *, connected: bool) -> None:
        """Told after each change, and when ``raise_at`` is reached.

        Args:
            lowest: What every other host supports; ``None`` when there is none.
            now: The time.
            connected: Whether the others can be heard: what is seen without that is part of the fleet at best.
        """
        if self.cap is None or (lowest is not None and lowest <= self.cap):
            self.cap = lowest
            self._forget_raise()
        elif not connected:
            self._forget_raise()
        elif self._since == _INFINITY or lowest != self._target:
            self._target, self._since = lowest, now
        elif now >= self.raise_at:
            self.cap = lowest
            self._forget_raise()

    @property
    def raise_at(self) -> float:
        """When it rises if nothing changes until then; infinity when it need not, or cannot."""
        return self._since + RAISE_S

    def _forget_raise(self) -> None:
        self._target, self._since = None, _INFINITY
