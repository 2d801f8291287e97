import pytest

from sidecar.protocol.budget import RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S
from sidecar.protocol.states import ChannelView, Reason, State
from tests.protocol.host_sessions import REFRESH, api_version, connected, heartbeat, new_session, sent, state_of


def storm_counts(times: list[float]) -> int:
    """The most that any window of a minute holds."""
    return max((sum(start <= time < start + 60.0 for time in times) for start in times), default=0)


def test_six_a_minute() -> None:
    assert (RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S) == (6, 60.0)


@pytest.mark.parametrize("offers", [[3, 2], [3, None], [3, 0], [3, 0, 0], [1, 2, 3, 4]])
def test_a_flapping_version_gets_six_verdicts_a_minute_and_recovers(offers: list[int | None]) -> None:
    session = connected()
    verdicts: list[float] = []
    told: list[float] = []
    reasons = set()
    before = session.view
    for step in range(3000):
        now = step * 0.1
        session.receive_data(heartbeat(offers[step % len(offers)]), now)
        told += [now for _ in sent(session)]
        view = session.view
        if (view.state, view.version) != (before.state, before.version) and view.state in ("agreed", "unversioned"):
            verdicts.append(now)
        before = view
        reasons.add((view.state, view.reason))
    assert len(told) + len(verdicts) >= 6
    assert storm_counts(told) <= 6
    assert storm_counts(verdicts) <= 6
    assert (State.WAITING, Reason.FLAPPING) in reasons

    for now in range(300, 425, 5):
        session.receive_data(heartbeat(3), float(now))
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)
    assert sent(session)[-1] == api_version(3)


def test_the_seventh_verdict_is_flapping_and_nothing_is_sendable() -> None:
    session = connected()
    for now in range(6):
        session.receive_data(heartbeat(3 - now % 2), float(now))
    assert session.view.state is State.AGREED
    sent(session)
    session.receive_data(heartbeat(3), 6.0)
    assert session.view == ChannelView(State.WAITING, 0, None, 4, Reason.FLAPPING)
    assert sent(session) == []
    for name in ("set-number-of-cpus", "echo"):
        refusal = session.refuse(name)
        assert refusal is not None
        assert (refusal.code, refusal.reason) == ("not-agreed", "flapping")


def test_a_lone_zero_costs_nothing() -> None:
    session = connected()
    for now, offer in enumerate([3, 0, 3, 0, 3, 0, 3, 0, 3, 0, 3]):
        session.receive_data(heartbeat(offer), float(now))
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)


def test_the_warning_stays_on_the_verdict_until_a_minute_was_calm() -> None:
    session = connected()
    for now in range(7):
        session.receive_data(heartbeat(3 - now % 2), float(now))
    for now in range(10, 60, 5):
        session.receive_data(heartbeat(3), float(now))
        assert state_of(session) == (State.WAITING, Reason.FLAPPING)
    session.receive_data(heartbeat(3), 60.0)  # the first verdict is a minute old
    assert state_of(session) == (State.AGREED, Reason.FLAPPING)
    assert session.deadline == 115.0  # the last one suppressed was at 55
    session.tick(115.0)
    assert state_of(session) == (State.AGREED, None)


def test_a_flapping_port_gets_six_refreshes_and_six_verdicts_a_minute_and_recovers() -> None:
    session = new_session()
    session.connect(0.0)
    refreshes: list[float] = [0.0]
    versions: list[float] = []
    sent(session)
    for step in range(1, 1000):
        now = step * 0.2
        session.port_closed(now)
        session.port_opened(now)
        session.receive_data(heartbeat(3), now)
        for message in sent(session):
            (refreshes if message["__name__"] == "refresh" else versions).append(now)
        assert session.view.state in (State.AGREED, State.WAITING)
    assert storm_counts(refreshes) == 6
    assert storm_counts(versions) == 6
    assert session.view.reason is Reason.FLAPPING

    late = []
    for now in range(200, 330, 5):
        session.receive_data(heartbeat(3), float(now))
        late += sent(session)
    assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)
    assert sorted(str(message["__name__"]) for message in late) == ["api-version", "refresh"]


def test_a_capped_host_still_tells_a_guest_whose_port_flapped() -> None:
    session = new_session(0)
    session.connect(0.0)
    for now in range(1, 10):
        session.port_closed(float(now))
        session.port_opened(float(now))
    sent(session)
    session.receive_data(heartbeat(3), 100.0)
    assert sent(session) == [{"__name__": "refresh"}]


def test_reconnects_of_ours_are_never_held_back() -> None:
    session = new_session()
    for now in range(20):
        session.connect(float(now))
        assert sent(session) == [REFRESH]
        session.disconnect(now + 0.5)


def test_a_guest_that_closes_its_port_is_lost_even_while_it_flaps() -> None:
    session = connected()
    for now in range(10):
        session.port_opened(float(now))
    assert state_of(session) == (State.WAITING, Reason.FLAPPING)
    session.port_closed(10.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
