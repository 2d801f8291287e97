import pytest

from sidecar.protocol.settling import SETTLE_S, Settling
from sidecar.protocol.states import ChannelView, Reason, State

AGREED = ChannelView(State.AGREED, 3, 3, 4, None)
AGREED_2 = ChannelView(State.AGREED, 2, 2, 4, None)
UNVERSIONED = ChannelView(State.UNVERSIONED, 0, None, 4, Reason.NO_VERSION)
AT_ZERO = ChannelView(State.UNVERSIONED, 0, 0, 4, Reason.STAYS_AT_ZERO)
LONE_ZERO = ChannelView(State.WAITING, 0, 0, 4, Reason.AGENT_RESTARTED)
NOT_HEARD = ChannelView(State.WAITING, 0, None, 4, Reason.NOT_HEARD)
CUT = ChannelView(State.LOST, 0, 3, 4, Reason.DISCONNECTED)
CLOSED = ChannelView(State.LOST, 0, 3, 4, Reason.PORT_CLOSED)
SILENT = ChannelView(State.LOST, 0, 3, 4, Reason.AGENT_SILENT)
ABSENT = ChannelView(State.ABSENT, 0, None, 4, Reason.NOT_OPENED)
BUSY = ChannelView(State.WAITING, 0, None, 4, Reason.SOCKET_BUSY)
FLAPPING = ChannelView(State.WAITING, 0, None, 4, Reason.FLAPPING)
AGREED_FLAPPING = ChannelView(State.AGREED, 3, 3, 4, Reason.FLAPPING)

PASSING = [LONE_ZERO, NOT_HEARD, CUT]
AT_ONCE = [AGREED_2, AT_ZERO, UNVERSIONED, CLOSED, SILENT, ABSENT, BUSY, FLAPPING, AGREED_FLAPPING]
NEVER = float("inf")


def test_it_waits_one_heartbeat_and_a_little() -> None:
    assert SETTLE_S == 6.0


@pytest.mark.parametrize(
    "before", [AGREED, UNVERSIONED, CLOSED, SILENT, ABSENT, BUSY], ids=lambda view: f"{view.state}-{view.reason}"
)
@pytest.mark.parametrize("live", PASSING, ids=lambda view: str(view.reason))
def test_a_passing_state_goes_on_record_when_it_lasts(live: ChannelView[int], before: ChannelView[int]) -> None:
    settling = Settling(before)
    settling.update(live, 100.0)
    assert (settling.settled, settling.deadline) == (before, 106.0)
    settling.update(live, 105.999)
    assert (settling.settled, settling.deadline) == (before, 106.0)
    settling.update(live, 106.0)
    assert (settling.settled, settling.deadline) == (live, NEVER)


@pytest.mark.parametrize("live", AT_ONCE, ids=lambda view: f"{view.state}-{view.reason}")
def test_a_verdict_or_a_loss_goes_on_record_at_once(live: ChannelView[int]) -> None:
    settling = Settling(AGREED)
    settling.update(live, 100.0)
    assert (settling.settled, settling.deadline) == (live, NEVER)


@pytest.mark.parametrize("verdict", [AGREED, AGREED_2, AT_ZERO])
def test_a_verdict_in_time_ends_the_wait(verdict: ChannelView[int]) -> None:
    settling = Settling(AGREED)
    settling.update(LONE_ZERO, 100.0)
    settling.update(verdict, 105.0)
    assert (settling.settled, settling.deadline) == (verdict, NEVER)
    settling.update(verdict, 106.0)
    assert settling.settled == verdict
    settling.update(LONE_ZERO, 107.0)
    assert settling.deadline == 113.0  # a new wait, not the rest of the old one


def test_one_passing_state_after_another_does_not_prolong_the_wait() -> None:
    settling = Settling(AGREED)
    settling.update(CUT, 100.0)
    settling.update(NOT_HEARD, 103.0)
    settling.update(LONE_ZERO, 105.0)
    assert (settling.settled, settling.deadline) == (AGREED, 106.0)
    settling.update(LONE_ZERO, 106.0)
    assert settling.settled == LONE_ZERO


def test_a_loss_ends_the_wait() -> None:
    settling = Settling(AGREED)
    settling.update(LONE_ZERO, 100.0)
    settling.update(CLOSED, 101.0)
    assert (settling.settled, settling.deadline) == (CLOSED, NEVER)


@pytest.mark.parametrize("live", PASSING, ids=lambda view: str(view.reason))
def test_what_is_on_record_already_waits_for_nothing(live: ChannelView[int]) -> None:
    settling = Settling(live)
    settling.update(live, 100.0)
    assert (settling.settled, settling.deadline) == (live, NEVER)


def test_a_restarted_agent_that_decides_in_time_costs_one_write() -> None:
    settling = Settling(CLOSED)
    for now, live in ((100.0, NOT_HEARD), (101.0, LONE_ZERO), (105.0, AGREED)):
        before = settling.settled
        settling.update(live, now)
        assert settling.settled == (AGREED if live is AGREED else before)
