"""``sidecarctl probe``: negotiates once with an agent behind a plain unix socket, without libvirt or the daemon."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sidecar.adapters.qmp_channel import dial_qga
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.config import load_configuration
from sidecar.engine.ports import ByteConnection
from sidecar.engine.qga_agent import QgaAgent
from sidecar.errors import AgentError
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.qga_host import QgaSession
from sidecar.protocol.qga_states import judge_failure
from sidecar.protocol.releases import Release
from sidecar.protocol.states import ChannelView, Dialect, Port, State


@dataclass(frozen=True, slots=True)
class Finding:
    """What one negotiation came to; versions as the record shows them."""

    dialect: Dialect
    socket: str
    state: str
    version: str
    guest: str | None
    host: str
    reason: str | None

    @property
    def agreed(self) -> bool:
        """Whether there is a common version."""
        return self.state == State.AGREED

    def render_json(self) -> str:
        """One JSON document, with the record's attribute names; ``null`` where an attribute would be absent."""
        return json.dumps(asdict(self))

    def render_line(self) -> str:
        """One line for people."""
        verdict = f"{self.state} {self.version}" if self.agreed else self.state
        reason = "" if self.reason is None else f", {self.reason}"
        return f"{self.dialect}: {verdict} (guest {self.guest or 'none'}, host {self.host}{reason})"


def probe(dialect: Dialect, socket: Path, configuration: Path | None, timeout_s: float) -> Finding:
    """Negotiate as this host's daemon would.

    Args:
        dialect: What to speak.
        socket: The agent's socket; another client of it should not be there.
        configuration: sidecard's configuration, whose caps hold; ``None``: the default one.
        timeout_s: How long the agent has for a verdict; without one the state is what was seen until then.

    Raises:
        ConfigurationError: The configuration is wrong.
        TransportError: Nothing can be reached at the socket.
    """
    loaded = load_configuration(configuration)
    if dialect is Dialect.QGA:
        view = asyncio.run(_probe_qga(str(socket), loaded.qga_maximum, timeout_s))
    else:
        view = asyncio.run(_probe_ovirt(str(socket), loaded.ovirt_maximum, timeout_s))
    return Finding(dialect, str(socket), *view)


_Row = tuple[str, str, str | None, str, str | None]


def _row(view: ChannelView[int] | ChannelView[str]) -> _Row:
    guest = None if view.guest is None else str(view.guest)
    return view.state.value, str(view.version), guest, str(view.host), view.reason and view.reason.value


async def _probe_qga(path: str, maximum: Release, timeout_s: float) -> _Row:
    session = QgaSession(maximum=maximum, absent_s=timeout_s, now=0.0, port=Port.OPEN)
    connection = await dial_qga(path, None)

    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s

    async def call(request: str, answer_s: float, wait_s: float) -> str:
        return await connection.call(request, min(answer_s, wait_s, max(0.0, end - loop.time())))

    number = session.begin_round()
    try:
        session.receive_report(number, await QgaAgent(call).ask(lambda: None), 0.0)
    except AgentError as error:
        session.fail(number, judge_failure(error, answered_in_time=False), 0.0)
    finally:
        connection.close()
        await connection.wait_closed()
    return _row(session.view)


async def _probe_ovirt(path: str, maximum: int, timeout_s: float) -> _Row:
    loop = asyncio.get_running_loop()
    session = HostSession(
        maximum=maximum, responsive_s=timeout_s, absent_s=timeout_s, now=loop.time(), port=Port.UNKNOWN
    )
    concluded, early = asyncio.Event(), bytearray()
    connection: ByteConnection | None = None

    def receive(data: bytes) -> None:
        if connection is None:
            early.extend(data)  # it speaks before we know that we are connected
            return
        session.receive_data(data, loop.time())
        connection.send(session.data_to_send())
        if session.view.state in (State.AGREED, State.UNVERSIONED):
            concluded.set()

    connection = await UnixDialer().dial(path, None, receive)
    session.connect(loop.time())
    receive(bytes(early))
    try:
        await _first_of(timeout_s, concluded.wait, connection.wait_closed)
        await _drain(connection)
    finally:
        connection.close()
        await connection.wait_closed()
    return _row(session.view)


async def _first_of(timeout_s: float, *waits: Callable[[], Awaitable[object]]) -> None:
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _drain(connection: ByteConnection) -> None:
    """What was agreed must have reached the agent, or its side of the channel, before we hang up."""
    for _ in range(100):
        if not connection.unread_bytes():
            return
        await asyncio.sleep(0.01)
