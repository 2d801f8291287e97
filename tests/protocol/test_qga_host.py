"""The life of one QGA session: when the agent is asked, whose answer counts, and what its port and time bring."""

from collections.abc import Callable

import pytest

from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_states import Stage, Step
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol.qga_sessions import (
    AGREED,
    FROZEN,
    HEALTHY,
    NEVER,
    TEN,
    WAITING,
    agreed,
    answer,
    close_and_open,
    due_at,
    lose_and_find,
    new_session,
    report,
    state_of,
)

# The start.


@pytest.mark.parametrize("port", [Port.OPEN, Port.HEARD])
def test_an_open_end_is_asked_at_once(port: Port) -> None:
    session = new_session(port)
    assert session.view == WAITING
    assert session.port_open
    assert (session.ask_due, due_at(session)) == (True, 0.0)


@pytest.mark.parametrize("port", [Port.CLOSED, Port.UNKNOWN])
def test_nobody_is_asked_before_the_end_opens(port: Port) -> None:
    session = new_session(port)
    session.tick(100.0)
    session.doubt(100.0)
    assert session.view == WAITING
    assert (session.port_open, session.ask_due, due_at(session)) == (False, False, 120.0)
    session.port_opened(101.0)
    assert (session.ask_due, due_at(session)) == (True, 101.0)
    answer(session, HEALTHY, 101.0)
    assert session.view == AGREED


def test_while_it_is_asked_it_is_not_asked_again() -> None:
    session = new_session()
    session.begin_round()
    session.tick(1000.0)
    assert (session.ask_due, due_at(session)) == (False, NEVER)


@pytest.mark.parametrize(
    ("version", "maximum", "view"),
    [
        ("7.2.22", "10.0", AGREED),
        ("7.2.22", "5.2", ChannelView(State.AGREED, "5.2", "7.2.22", "5.2", None)),
        ("1.9.0", "1.10", ChannelView(State.AGREED, "1.9", "1.9.0", "1.10", None)),
        ("11.2.0", "10.0", ChannelView(State.AGREED, "10.0", "11.2.0", "10.0", None)),
        ("102.10.0", "9.1", ChannelView(State.AGREED, "9.1", "102.10.0", "9.1", Reason.INFERRED)),
        ("", "10.0", ChannelView(State.AGREED, "10.0", None, "10.0", Reason.INFERRED)),
        ("7.2.22", "0", ChannelView(State.UNVERSIONED, "0", "7.2.22", "0", Reason.HOST_CAPPED)),
    ],
)
def test_the_lower_of_both_is_agreed(version: str, maximum: str, view: ChannelView[str]) -> None:
    session = new_session(maximum=Release.parse(maximum))
    answer(session, report(version), 0.0)
    assert session.view == view
    assert due_at(session) == NEVER


# Whose answer counts.


def cut_and_connect(session: QgaSession) -> None:
    session.disconnect(1.0, Step.DISCONNECTED)
    session.connect(1.0)


MET_ANEW: list[Callable[[QgaSession], None]] = [
    close_and_open,
    lose_and_find,
    cut_and_connect,
    lambda s: s.port_opened(1.0),
    lambda s: s.connect(1.0),
]


@pytest.mark.parametrize("meet", MET_ANEW)
def test_another_agent_is_asked_anew_and_the_answer_of_the_first_dropped(meet: Callable[[QgaSession], None]) -> None:
    session = new_session()
    stale = session.begin_round()
    meet(session)
    assert session.ask_due
    number = session.begin_round()
    session.receive_report(stale, HEALTHY, 2.0)
    session.fail(stale, Step.SILENCE, 2.0)
    assert (session.view, due_at(session)) == (WAITING, NEVER)
    session.receive_report(number, report("8.2.0"), 3.0)
    assert session.view.version == "8.2"
    session.receive_report(stale, FROZEN, 4.0)
    assert session.view == ChannelView(State.AGREED, "8.2", "8.2.0", "10.0", None)


@pytest.mark.parametrize("meet", MET_ANEW)
def test_nothing_is_agreed_with_another_agent(meet: Callable[[QgaSession], None]) -> None:
    session = agreed()
    meet(session)
    assert (session.view, session.ask_due) == (WAITING, True)


def test_the_answer_of_somebody_who_has_gone_is_dropped() -> None:
    session = new_session()
    number = session.begin_round()
    session.port_closed(1.0)
    session.receive_report(number, HEALTHY, 2.0)
    session.fail(number, Step.SILENCE, 2.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)
    assert due_at(session) == NEVER


def test_the_report_of_an_opening_that_is_known_already_changes_nothing() -> None:
    session = new_session(Port.HEARD)
    number = session.begin_round()
    session.port_opened(0.1)
    assert not session.ask_due
    session.receive_report(number, HEALTHY, 2.0)
    assert session.view == AGREED
    session.port_opened(3.0)  # the second one is another agent's: a closing between them was swallowed
    assert (session.view, session.ask_due) == (WAITING, True)


def test_what_the_xml_shows() -> None:
    session = agreed()
    session.port_seen(True, 1.0)
    assert (session.view, session.ask_due) == (AGREED, False)
    session.port_seen(False, 2.0)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.PORT_CLOSED)
    session.port_seen(False, 3.0)
    session.port_seen(True, 4.0)
    assert (session.view, session.ask_due) == (WAITING, True)
    answer(session, HEALTHY, 4.0)
    session.port_opened(4.1)  # the report of what the XML showed
    assert (session.view, session.ask_due) == (AGREED, False)


def test_a_report_long_after_the_xml_is_of_another_agent() -> None:
    session = new_session(Port.HEARD)
    answer(session, HEALTHY, 0.0)
    session.port_opened(0.5)
    assert (session.view, session.ask_due) == (WAITING, True)


def resumed(offer: str, version: str) -> QgaSession:
    agreed = Release.parse(version)
    return QgaSession(maximum=TEN, absent_s=120.0, now=0.0, port=Port.HEARD, offer=offer, agreed=agreed)


def test_frozen_when_we_come_back_keeps_what_the_same_agent_had_agreed() -> None:
    session = resumed("7.2.22", "7.2")
    answer(session, FROZEN, 0.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)
    other = resumed("5.2.0", "5.2")
    answer(other, FROZEN, 0.0)
    assert state_of(other) == (State.WAITING, Reason.GUEST_FROZEN)


def test_frozen_after_its_end_opened_anew_keeps_nothing() -> None:
    session = resumed("7.2.22", "7.2")
    session.port_closed(1.0)
    session.port_opened(2.0)
    answer(session, FROZEN, 2.0)
    assert state_of(session) == (State.WAITING, Reason.GUEST_FROZEN)


def test_frozen_while_libvirt_was_away_keeps_what_was_agreed() -> None:
    session = agreed()
    session.lose_track()
    session.port_seen(True, 1.0)
    answer(session, FROZEN, 1.0)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)


@pytest.mark.parametrize("begin", [agreed, lambda: resumed("7.2.22", "7.2")], ids=["libvirt restarted", "both did"])
def test_frozen_and_told_anew_by_a_libvirt_that_is_back_keeps_what_was_agreed(begin: Callable[[], QgaSession]) -> None:
    session = begin()
    session.lose_track()
    session.port_seen(True, 1.0)
    answer(session, None, 1.0)  # libvirt is not connected to the agent yet
    session.port_opened(1.5)
    answer(session, FROZEN, 1.5)
    assert session.view == ChannelView(State.AGREED, "7.2", "7.2.22", "10.0", Reason.GUEST_FROZEN)
    session.port_opened(2.0)  # libvirt tells that once: this one restarted faster than QEMU tells
    answer(session, FROZEN, 2.0)
    assert state_of(session) == (State.WAITING, Reason.GUEST_FROZEN)


def test_frozen_and_seen_leaving_after_libvirt_is_back_keeps_nothing() -> None:
    session = agreed()
    lose_and_find(session)
    session.port_closed(1.2)
    session.port_opened(1.5)
    answer(session, FROZEN, 1.5)
    assert state_of(session) == (State.WAITING, Reason.GUEST_FROZEN)


def test_who_is_seen_once_after_reports_were_lost_is_known_again() -> None:
    session = agreed()
    lose_and_find(session)
    answer(session, HEALTHY, 1.0)
    session.port_seen(True, 2.0)
    assert (session.view, session.ask_due) == (AGREED, False)


def test_a_connection_that_broke() -> None:
    session = agreed()
    session.disconnect(1.0, Step.DISCONNECTED)
    assert session.view == ChannelView(State.LOST, "0", "7.2.22", "10.0", Reason.DISCONNECTED)
    assert due_at(session) == NEVER
    session.connect(2.0)
    answer(session, HEALTHY, 2.0)
    assert session.view == AGREED


# Time.


@pytest.mark.parametrize("port", [Port.CLOSED, Port.UNKNOWN])
def test_absent_after_absent_seconds(port: Port) -> None:
    session = new_session(port)
    session.tick(119.999)
    assert session.view == WAITING
    session.tick(120.0)
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
    assert due_at(session) == NEVER
    session.connect(121.0)  # dialling again opens nothing
    assert state_of(session) == (State.ABSENT, Reason.NOT_OPENED)
    session.port_opened(130.0)
    assert (session.view, session.ask_due) == (WAITING, True)


def test_who_was_there_is_never_absent() -> None:
    session = agreed()
    session.port_closed(1.0)
    session.tick(1000.0)
    assert state_of(session) == (State.LOST, Reason.PORT_CLOSED)


@pytest.mark.parametrize("stage", [Stage.CLOSED, Stage.NOT_OPENED])
def test_what_was_lost_or_absent_stays_so_until_the_end_opens(stage: Stage) -> None:
    session = new_session(Port.CLOSED, stage=stage)
    session.tick(1000.0)
    assert (state_of(session), due_at(session)) == ((stage.state, stage.reason), NEVER)
    session.port_opened(1001.0)
    answer(session, HEALTHY, 1001.0)
    assert session.view == AGREED
