"""When one QGA session asks its agent again: what cannot be judged, doubt, a guest that flaps."""

import pytest

from sidecar.protocol.qga_report import Report
from sidecar.protocol.qga_states import Step
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.qga_sessions import (
    AGREED,
    FROZEN,
    HEALTHY,
    NEVER,
    WAITING,
    agreed,
    answer,
    close_and_open,
    due_at,
    new_session,
    report,
    state_of,
)

# Asking again.


@pytest.mark.parametrize(
    ("what", "view"),
    [
        (FROZEN, ChannelView(State.WAITING, "0", "7.2.22", "10.0", Reason.GUEST_FROZEN)),
        (Step.SILENCE, ChannelView(State.LOST, "0", None, "10.0", Reason.AGENT_SILENT)),
        (Step.POISONED, ChannelView(State.LOST, "0", None, "10.0", Reason.AGENT_POISONED)),
        (Step.BAD_REPLY, ChannelView(State.LOST, "0", None, "10.0", Reason.BAD_REPLY)),
        (Step.JOB_HELD, ChannelView(State.WAITING, "0", None, "10.0", Reason.AGENT_JOB_HELD)),
        (None, WAITING),
    ],
)
def test_who_cannot_be_judged_is_asked_again_up_to_once_a_minute(
    what: Report | Step | None, view: ChannelView[str]
) -> None:
    session = new_session()
    now, pauses = 0.0, []
    for _ in range(9):
        answer(session, what, now)
        assert session.view == view
        session.tick(due_at(session) - 0.001)
        assert not session.ask_due
        pauses.append(due_at(session) - now)
        now = due_at(session)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    answer(session, HEALTHY, now)
    assert (session.view, due_at(session)) == (AGREED, NEVER)
    session.doubt(now)
    answer(session, what, now)
    assert due_at(session) == now + 1  # whoever was healthy is asked again soon


@pytest.mark.parametrize("what", [HEALTHY, report("102.10.0"), Step.BLOCKED])
def test_who_is_healthy_or_has_guest_info_blocked_is_never_asked_again(what: Report | Step) -> None:
    session = new_session()
    answer(session, what, 0.0)
    session.tick(1e9)
    assert (session.ask_due, due_at(session)) == (False, NEVER)


def test_who_has_guest_info_blocked_is_unversioned_until_another_agent_comes() -> None:
    session = new_session()
    answer(session, Step.BLOCKED, 0.0)
    assert session.view == ChannelView(State.UNVERSIONED, "0", None, "10.0", Reason.GUEST_INFO_BLOCKED)
    close_and_open(session)
    answer(session, HEALTHY, 1.0)
    assert session.view == AGREED


def test_an_agent_that_comes_anew_does_not_wait_for_the_pause_of_the_last() -> None:
    session = new_session()
    for now in (0.0, 1.0, 3.0, 7.0):
        answer(session, Step.SILENCE, now)
    session.port_closed(8.0)
    assert due_at(session) == NEVER
    session.port_opened(9.0)
    answer(session, Step.SILENCE, 9.0)
    assert due_at(session) == 10.0


@pytest.mark.parametrize("step", [None, Step.JOB_HELD])
def test_what_shows_nothing_of_the_agent_leaves_what_is_known(step: Step | None) -> None:
    session = agreed()
    session.doubt(5.0)
    answer(session, step, 5.0)
    assert (session.view, due_at(session)) == (AGREED, 6.0)


# Doubt and silence.


def test_a_doubt_asks_at_once_and_what_is_known_stands_meanwhile() -> None:
    session = agreed()
    session.doubt(5.0)
    assert (session.view, session.ask_due, due_at(session)) == (AGREED, True, 5.0)
    answer(session, report("8.2.0"), 5.0)
    assert (session.view.version, due_at(session)) == ("8.2", NEVER)


def test_a_doubt_does_not_wait_for_the_next_time_nor_put_it_off() -> None:
    session = new_session()
    answer(session, Step.SILENCE, 0.0)
    session.doubt(0.5)
    assert due_at(session) == 0.5
    session.doubt(0.7)
    assert due_at(session) == 0.5


def test_a_call_that_is_not_answered_ends_the_agreement_and_the_agent_is_asked_again() -> None:
    session = agreed()
    assert not session.suspect
    session.doubt(5.0)
    answer(session, Step.SILENCE, 5.0)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.AGENT_SILENT)
    assert (session.suspect, due_at(session)) == (True, 6.0)
    answer(session, Step.SILENCE, 6.0)
    assert due_at(session) == 8.0
    answer(session, HEALTHY, 8.0)
    assert session.view == AGREED


def test_who_kept_us_waiting_is_not_cleared_of_it_by_reopening_nor_by_one_answer() -> None:
    session = agreed()
    session.doubt(5.0)
    answer(session, Step.SILENCE, 5.0)
    session.port_closed(6.0)
    session.port_opened(7.0)
    answer(session, HEALTHY, 7.0)
    assert session.suspect
    session.tick(76.0)
    assert not session.suspect


def test_an_agent_that_answers_after_all_is_not_asked_once_more() -> None:
    session = new_session()
    number = session.begin_round()
    session.doubt(1.0)  # somebody else's call
    session.receive_report(number, HEALTHY, 1.5)
    assert (session.view, due_at(session)) == (AGREED, NEVER)


def test_who_has_gone_is_not_silent() -> None:
    session = agreed()
    session.port_closed(1.0)
    session.doubt(2.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    assert due_at(session) == NEVER


# Flapping.


def test_the_opening_that_is_one_too_many_waits() -> None:
    session = new_session(Port.CLOSED)
    for now in range(6):
        session.port_opened(float(now))
        answer(session, HEALTHY, float(now))
        session.port_closed(float(now))
    session.port_opened(6.0)
    assert session.view == ChannelView(State.WAITING, "0", None, "10.0", Reason.FLAPPING)
    assert (session.ask_due, due_at(session)) == (False, 60.0)
    answer(session, HEALTHY, 60.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.FLAPPING)
    assert due_at(session) == 66.0
    session.tick(66.0)
    assert (session.view, due_at(session)) == (AGREED, NEVER)


def test_a_guest_that_closes_its_end_is_lost_even_while_it_flaps() -> None:
    session = new_session()
    for now in range(10):
        session.port_opened(float(now))
    assert state_of(session) == (State.WAITING, Reason.FLAPPING)
    session.port_closed(10.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)


@pytest.mark.parametrize("port", [Port.OPEN, Port.CLOSED])
def test_a_flapping_end_is_asked_six_times_a_minute_and_recovers(port: Port) -> None:
    session = new_session(port)
    asked: list[float] = []
    for step in range(400):
        now = step * 0.5
        session.port_closed(now)
        session.port_opened(now)
        session.tick(now)
        if session.ask_due:
            answer(session, HEALTHY, now)
            asked.append(now)
    assert max(sum(start <= now < start + 60.0 for now in asked) for start in asked) <= 6
    while due_at(session) != NEVER:
        now = due_at(session)
        session.tick(now)
        if session.ask_due:
            answer(session, HEALTHY, now)
    assert session.view == AGREED
