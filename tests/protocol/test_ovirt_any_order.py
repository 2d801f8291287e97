"""Whatever happens, in whichever order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.ovirt_states import Step
from sidecar.protocol.states import Port, State
from tests.protocol.host_sessions import GOOD, heartbeat, new_session, sent

CALLS = st.sampled_from(
    [
        "connect",
        "cut",
        "busy",
        "unreachable",
        "foreign",
        "stand_by",
        "open",
        "close",
        "seen_open",
        "seen_closed",
        "tick",
    ]
) | st.sampled_from([heartbeat(None), heartbeat(0), heartbeat(1), heartbeat(3), heartbeat(9), GOOD, b"bad\n"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(CALLS | st.integers(0, 4), st.sampled_from([0.0, 0.5, 7.0, 61.0, 130.0])), max_size=40),
    st.sampled_from(Port),
)
def test_whatever_happens(calls: list[tuple[str | bytes | int, float]], port: Port) -> None:
    session, now, online = new_session(port=port), 0.0, False
    for call, pause in calls:
        now += pause
        match call:
            case int():
                session.set_maximum(call, now)
            case bytes():
                if online:
                    session.receive_data(call, now)
            case "connect":
                session.connect(now)
                online = True
            case "cut" | "busy" if online:
                session.disconnect(now, Step.BUSY if call == "busy" else Step.DISCONNECTED)
                online = False
            case "unreachable" if not online:
                session.disconnect(now, Step.UNREACHABLE)
            case "foreign" if not online:
                session.disconnect(now, Step.FOREIGN)
            case "stand_by" if not session.heard:
                session.stand_by(now)
                online = False
            case "open":
                session.port_opened(now)
            case "close":
                session.port_closed(now)
            case "seen_open" | "seen_closed":
                session.port_seen(call == "seen_open", now)
        view = session.view
        assert (view.state is State.AGREED) == (view.version >= 1)
        assert view.version <= view.host
        assert view.reason is not None or view.state is State.AGREED
        if not online:
            assert session.data_to_send() == b""
            assert view.version == 0
        for message in sent(session):
            assert message["__name__"] in ("refresh", "api-version")
            assert message.get("apiVersion", view.host or 1) != 0
        # A deadline that has been kept is over: otherwise the engine's timer would spin.
        session.tick(now)
        assert session.deadline > now
