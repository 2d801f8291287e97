"""The operator wants a negotiation anew: both dialects forget, ask once, and agree on what the agent says now."""

import pytest

from sidecar.protocol.qga_states import Step as QgaStep
from sidecar.protocol.states import ChannelView, Port, Reason, State
from tests.protocol import host_sessions as ovirt
from tests.protocol import qga_sessions as qga


class TestOvirt:
    def test_refresh_goes_out_and_the_first_offer_is_answered_although_the_number_is_the_same(self) -> None:
        session = ovirt.agreed(3)
        session.renegotiate(2.0)
        assert ovirt.sent(session) == [ovirt.REFRESH]
        assert session.view == ovirt.WAITING
        session.receive_data(ovirt.heartbeat(3), 3.0)
        assert ovirt.sent(session) == [ovirt.api_version(3)]
        assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)

    def test_nothing_is_sendable_meanwhile(self) -> None:
        session = ovirt.agreed(3)
        session.renegotiate(2.0)
        refusal = session.refuse("echo")
        assert refusal is not None
        assert refusal.code == "not-agreed"

    def test_a_silent_agent_is_given_the_time_to_answer(self) -> None:
        session = ovirt.agreed(3)
        session.tick(121.0)
        assert session.view.state is State.LOST
        session.renegotiate(130.0)
        session.tick(130.1)
        assert session.view == ovirt.WAITING
        session.tick(250.0)
        assert session.view.reason is Reason.AGENT_SILENT

    def test_of_a_host_that_is_capped_to_nothing(self) -> None:
        session = ovirt.connected(maximum=0)
        session.renegotiate(2.0)
        assert ovirt.sent(session) == [{"__name__": "refresh"}]

    def test_without_a_connection_nothing_happens(self) -> None:
        session = ovirt.agreed(3)
        session.disconnect(2.0)
        before = session.view
        session.renegotiate(3.0)
        assert (session.view, ovirt.sent(session)) == (before, [])

    def test_an_end_that_is_closed_stays_closed(self) -> None:
        session = ovirt.agreed(3)
        session.port_closed(2.0)
        session.renegotiate(3.0)
        assert ovirt.state_of(session) == (State.LOST, Reason.PORT_CLOSED)

    def test_who_flapped_gets_another_chance(self) -> None:
        session = ovirt.connected()
        for now in range(7):
            session.receive_data(ovirt.heartbeat(3 - now % 2), float(now))
        assert session.view.reason is Reason.FLAPPING
        session.renegotiate(7.0)
        session.receive_data(ovirt.heartbeat(3), 8.0)
        assert session.view == ChannelView(State.AGREED, 3, 3, 4, None)

    def test_an_agent_that_does_not_answer_is_silent_in_its_time(self) -> None:
        session = ovirt.agreed(3)
        session.renegotiate(2.0)
        assert session.deadline == 2.0 + 120.0
        session.tick(122.0)
        assert ovirt.state_of(session) == (State.LOST, Reason.AGENT_SILENT)


class TestQga:
    def test_the_agent_is_asked_at_once(self) -> None:
        session = qga.agreed()
        session.renegotiate(2.0)
        assert qga.state_of(session) == (State.WAITING, Reason.NOT_HEARD)
        assert session.refuse("guest-ping") is not None
        qga.answer(session, qga.report("5.2.0"), 2.0)
        assert session.view.version == "5.2"

    def test_an_answer_that_was_under_way_does_not_count(self) -> None:
        session = qga.new_session()
        session.tick(0.0)
        number = session.begin_round()
        session.renegotiate(1.0)
        session.receive_report(number, qga.HEALTHY, 1.0)
        assert session.view == qga.WAITING
        assert session.ask_due

    @pytest.mark.parametrize("port", [Port.CLOSED, Port.UNKNOWN])
    def test_nobody_is_asked_where_nobody_is(self, port: Port) -> None:
        session = qga.new_session(port)
        session.renegotiate(1.0)
        assert session.ask_at == qga.NEVER

    def test_an_end_that_is_closed_stays_closed(self) -> None:
        session = qga.agreed()
        session.port_closed(1.0)
        session.renegotiate(2.0)
        assert qga.state_of(session) == (State.LOST, Reason.PORT_CLOSED)
        assert session.ask_at == qga.NEVER

    def test_who_was_to_be_asked_in_a_minute_is_asked_now(self) -> None:
        session = qga.new_session()
        for now in (0.0, 1.0, 3.0, 7.0):
            qga.answer(session, QgaStep.BAD_REPLY, now)
        assert session.ask_at == 15.0
        session.renegotiate(8.0)
        assert session.ask_at == 8.0

    def test_a_frozen_guest_keeps_what_was_agreed_before(self) -> None:
        session = qga.agreed()
        session.renegotiate(2.0)
        qga.answer(session, qga.FROZEN, 2.0)
        assert session.view.version == "7.2"
        assert session.view.reason is Reason.GUEST_FROZEN

    def test_who_flapped_gets_another_chance(self) -> None:
        session = qga.new_session()
        for _ in range(8):
            qga.close_and_open(session)
        assert session.view.reason is Reason.FLAPPING
        session.renegotiate(2.0)
        qga.answer(session, qga.HEALTHY, 2.0)
        assert session.view == qga.AGREED
