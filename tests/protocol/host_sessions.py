"""Host sessions as tests need them, the lines that an agent writes, and what the host answers."""

import json

from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.states import ChannelView, Port, Reason, State

NEVER = float("inf")
GOOD = b'{"__name__": "host-name", "name": "after"}\n'
REFRESH = {"__name__": "refresh", "apiVersion": 4}
WAITING = ChannelView(State.WAITING, 0, None, 4, Reason.NOT_HEARD)


def new_session(
    maximum: int = 4, port: Port = Port.OPEN, now: float = 0.0, responsive_s: float = 120.0, absent_s: float = 120.0
) -> HostSession:
    return HostSession(maximum=maximum, responsive_s=responsive_s, absent_s=absent_s, now=now, port=port)


def connected(maximum: int = 4, port: Port = Port.OPEN, now: float = 0.0) -> HostSession:
    """A session that has just connected and whose `refresh` was written."""
    session = new_session(maximum, port, now)
    session.connect(now)
    sent(session)
    return session


def sent(session: HostSession) -> list[dict[str, object]]:
    return [json.loads(line) for line in session.data_to_send().splitlines()]


def api_version(number: int) -> dict[str, object]:
    return {"__name__": "api-version", "apiVersion": number}


def heartbeat(version: int | None) -> bytes:
    key = b"" if version is None else b', "apiVersion": %d' % version
    return b'{"__name__": "heartbeat", "free-ram": "128"' + key + b"}\n"


def agreed(version: int, maximum: int = 4) -> HostSession:
    session = connected(maximum)
    session.receive_data(heartbeat(version), 1.0)
    sent(session)
    return session


def state_of(session: HostSession) -> tuple[State, Reason | None]:
    return session.view.state, session.view.reason
