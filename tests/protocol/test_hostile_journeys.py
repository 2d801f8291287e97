"""The journeys of both ends once more, with lines among the others that no honest end writes: they change nothing.

A guest's processes, or a host of before, may have left anything in the port. What holds for the journeys without it,
and how they end, holds here as well.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.protocol.test_journeys import Journey as OriginalJourney
from tests.protocol.test_own_journeys import Journey as OwnJourney
from tests.protocol.worthless_lines import NO_JSON, NO_MESSAGES, NO_VERSIONS

# Those that are long for their own sake have tests of their own, and would take most of the time here.
LINES = [*(line for line in NO_MESSAGES if len(line) < 10_000), b'{"__name__": "login\\u0000"}', b"\xfe" * 300]
VERSIONS = [b'{"__name__": "api-version", "apiVersion": ' + text + b"}" for text in NO_VERSIONS + NO_JSON]


class HostileOriginalJourney(OriginalJourney):
    """The original agents of all eras, with somebody else in the guest who writes to the same port."""

    @precondition(lambda self: self.opened)
    @rule(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=5))
    def babble(self, lines: list[bytes]) -> None:
        self.to_host += b"".join(line + b"\n" for line in lines)


class HostileOwnJourney(OwnJourney):
    """Our own agent, with strangers at both ends."""

    @rule(at=st.integers(0, 20), line=st.sampled_from(LINES))
    def babble_to_host(self, at: int, line: bytes) -> None:
        self.to_host.insert(at, line + b"\n")

    @rule(at=st.integers(0, 20), line=st.sampled_from(LINES))
    def babble_to_guest(self, at: int, line: bytes) -> None:
        self.to_guest.insert(at, line + b"\n")

    @rule(lines=st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=5))
    def tell_no_version(self, lines: list[bytes]) -> None:
        """None of them is taken for one."""
        before = self.agent.version
        self.agent.receive_data(b"".join(line + b"\n" for line in lines), self.now)
        assert self.agent.version == before
        assert type(self.agent.version) is int


TestOriginal = HostileOriginalJourney.TestCase
TestOwn = HostileOwnJourney.TestCase
TestOriginal.settings = TestOwn.settings = settings(stateful_step_count=40, deadline=None)
