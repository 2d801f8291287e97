"""What is remembered of an agent: its last list, the last one that could be judged, and what was agreed before.

A frozen guest's list says nothing, so what could be judged before counts. When nothing could, what was agreed before we
lost track of the agent does, but only while it calls itself the same: its end was not seen closing, and might have.
"""

from sidecar.protocol.qga_report import Report
from sidecar.protocol.releases import Release


class AgentMemory:
    """One session's.

    Attributes:
        latest: The agent's last list, frozen or not; ``None`` before it told one.
        offer: What it calls itself.
    """

    __slots__ = ("_agreed", "_judged", "latest", "offer")

    def __init__(self, offer: str | None, agreed: tuple[str | None, Release] | None) -> None:
        """``agreed`` is what a daemon before us had agreed on, with what the agent had called itself then."""
        self.latest: Report | None = None
        self.offer = offer
        self._judged: Report | None = None
        self._agreed = agreed

    @property
    def inferred(self) -> bool:
        """Whether the release of the agent had to be found by its commands."""
        return self._judged is not None and self._judged.inferred

    @property
    def frozen(self) -> bool:
        """Whether its last list is a frozen guest's."""
        return self.latest is not None and self.latest.frozen

    @property
    def release(self) -> Release | None:
        """What it is judged by; ``None`` while nothing is known that counts."""
        if self._judged is not None:
            return self._judged.release
        if self._agreed is not None and self.offer is not None and self._agreed[0] == self.offer:
            return self._agreed[1]
        return None

    def take(self, report: Report) -> None:
        """The agent has told its list."""
        self.latest, self.offer = report, report.offer
        if not report.frozen:
            self._judged = report

    def keep_agreed(self, release: Release) -> None:
        """It was agreed with as this release."""
        self._agreed = self.offer, release

    def forget_lists(self) -> None:
        """Another agent may be there."""
        self.latest = self._judged = None

    def forget_agreed(self) -> None:
        """The agent was seen leaving: what was agreed with it is no other's."""
        self._agreed = None
