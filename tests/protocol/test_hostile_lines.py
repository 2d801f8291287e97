"""The twenty-six lines against a session: each costs at most one complaint, and the next good line is read.

The same lines go through a real channel in ``tests/lab/test_hostile.py``.
"""

import pytest

from sidecar.protocol.bad_input import BadInput
from sidecar.protocol.ovirt_reader import Heartbeat, MessageReceived
from sidecar.protocol.states import State
from tests.protocol.host_sessions import GOOD, agreed, api_version, connected, heartbeat, sent
from tests.protocol.twenty_six_lines import TWENTY_SIX_LINES, HostileLine

each = pytest.mark.parametrize("hostile", TWENTY_SIX_LINES, ids=lambda hostile: hostile.name)


def test_there_are_twenty_six_of_them() -> None:
    assert len({hostile.line for hostile in TWENTY_SIX_LINES}) == 26
    assert len({hostile.name for hostile in TWENTY_SIX_LINES}) == 26
    assert not any(b"\n" in hostile.line for hostile in TWENTY_SIX_LINES)


@each
def test_it_costs_at_most_one_complaint_and_the_next_good_line_is_read(hostile: HostileLine) -> None:
    session = connected()
    events = session.receive_data(hostile.line + b"\n" + GOOD, 1.0)
    assert [event.code for event in events if isinstance(event, BadInput)] == [hostile.code] * bool(hostile.code)
    assert [event.offer for event in events if isinstance(event, Heartbeat)] == [hostile.offer] * hostile.is_heartbeat
    assert events[-1] == MessageReceived("host-name")
    again = session.receive_data(hostile.line + b"\n" + GOOD, 2.0)
    assert not any(isinstance(event, BadInput) for event in again)
    assert again[-1] == MessageReceived("host-name")
    assert session.bad_input == ({hostile.code: 2} if hostile.code else {})


@each
def test_it_never_passes_for_a_version(hostile: HostileLine) -> None:
    session = connected()
    session.receive_data(hostile.line + b"\n", 1.0)
    assert session.view.version == (hostile.offer or 0)
    assert (session.view.state is State.AGREED) == (hostile.offer is not None)


@each
def test_an_honest_heartbeat_after_it_is_agreed_with(hostile: HostileLine) -> None:
    session = agreed(3)
    session.receive_data(hostile.line + b"\n" + heartbeat(2), 2.0)
    assert (session.view.state, session.view.version) == (State.AGREED, 2)
    assert sent(session)[-1] == api_version(2)


def test_all_in_one_piece_lose_nothing_of_each_other() -> None:
    session = connected()
    events = session.receive_data(b"".join(hostile.line + b"\n" + GOOD for hostile in TWENTY_SIX_LINES), 1.0)
    assert events.count(MessageReceived("host-name")) == 27  # one of them is a host name itself
    codes = [hostile.code for hostile in TWENTY_SIX_LINES if hostile.code]
    assert session.bad_input == {code: codes.count(code) for code in codes}
