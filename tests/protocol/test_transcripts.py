"""Golden transcripts: what both ends say at each version, to the byte. ``SIDECAR_REGENERATE=1`` writes them anew."""

import pytest

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.ovirt_agent import AgentSession
from sidecar.protocol.ovirt_host import HostSession
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, HOST_TO_GUEST
from tests.conftest import Golden
from tests.protocol.agent_sessions import BEAT_S, line, new_agent, written
from tests.protocol.host_sessions import new_session

# One of each message of the guest's that is no report of a state.
EVENTS: dict[str, dict[str, object]] = {
    "session-startup": {},
    "session-shutdown": {},
    "session-logon": {},
    "session-logoff": {},
    "session-lock": {},
    "session-unlock": {},
    "uninstalled": {},
    "echo": {"any": ["thing", 1, None]},
    "completion": {"reply_id": "4f7c", "done": True},
}
MEMORY = {"memory": {"mem_total": 262144, "mem_unused": 131072}}

COMMANDS: dict[str, dict[str, object]] = {
    "lock-screen": {},
    "log-off": {},
    "login": {"username": "user@domain", "password": "secret"},
    "shutdown": {"timeout": 60, "message": "Grüße", "reboot": "False"},
    "hibernate": {"state": "disk"},
    "echo": {"any": ["thing", 1, None]},
    "set-number-of-cpus": {"count": 2},
    "lifecycle-event": {"type": "before_migration", "reply_id": "4f7c"},
}


class Transcript:
    """Both ends, and every line between them in its order."""

    def __init__(self, version: int) -> None:
        self.host = new_session(version)
        self.agent = new_agent()
        self.agent.keep("memory-stats", MEMORY)
        self.lines: list[str] = []

    def meet(self) -> None:
        """A fresh agent, and a host whose maximum is this version."""
        self.host.connect(0.0)
        self.agent.host_came(0.0)
        self.agent.tick(0.0)
        self.exchange()
        self.agent.tick(self.agent.deadline)
        self.exchange()

    def exchange(self) -> None:
        while said := self.take("host: ", self.host.data_to_send()):
            self.agent.receive_data(said, 1.0)
            self.host.receive_data(self.take("guest: ", written(self.agent)), 1.0)
        self.host.receive_data(self.take("guest: ", written(self.agent)), 1.0)
        self.agent.receive_data(self.take("host: ", self.host.data_to_send()), 1.0)
        if said := self.take("guest: ", written(self.agent)):
            self.host.receive_data(said, 1.0)

    def take(self, who: str, data: bytes) -> bytes:
        self.lines += [who + text.decode("ascii") for text in data.splitlines()]
        return data

    def comment(self, text: str) -> None:
        self.lines.append(f"# {text}")


@pytest.mark.parametrize("version", range(5))
def test_transcript(version: int, golden: Golden) -> None:
    transcript = Transcript(version)
    transcript.comment(f"an agent of API 4 starts on a host of {version}")
    transcript.meet()
    assert transcript.agent.version == transcript.host.view.version == version
    transcript.comment("the agent says all that it ever says")
    say_everything(transcript.agent)
    transcript.take("guest: ", written(transcript.agent))
    transcript.comment("the host sends all that it ever sends, and is refused the rest")
    send_everything(transcript, transcript.host)
    transcript.comment("the guest arrives elsewhere, on a host of 4, and comes back")
    come_back(transcript, version)
    golden(f"transcript-{version}.txt", "\n".join(transcript.lines) + "\n")


def say_everything(agent: AgentSession) -> None:
    agent.tick(agent.deadline)
    for name in GUEST_TO_HOST:
        if name in EVENTS:
            agent.send(name, EVENTS[name])
        else:
            agent.report(name)


def send_everything(transcript: Transcript, host: HostSession) -> None:
    for name, arguments in COMMANDS.items():
        try:
            host.send(name, arguments)
        except MessageNotAllowedError as error:
            transcript.comment(f"refused: {error}")
        transcript.take("host: ", host.data_to_send())


def come_back(transcript: Transcript, version: int) -> None:
    """As ``refresh`` and ``api-version`` of two more hosts have it."""
    agent = transcript.agent
    for maximum in (4, version):
        agent.host_left(100.0)
        transcript.host = new_session(maximum, now=100.0)
        transcript.host.connect(100.0)
        agent.host_came(100.0)
        agent.tick(100.0)
        transcript.exchange()
        assert transcript.agent.version == transcript.host.view.version == maximum


def test_every_message_of_the_table_is_in_the_transcripts() -> None:
    reports = set(GUEST_TO_HOST) - set(EVENTS)
    agent = new_agent()
    agent.keep("memory-stats", MEMORY)
    agent.host_came(0.0)
    agent.tick(0.0)
    agent.receive_data(line("api-version", apiVersion=4), 0.0)
    written(agent)
    agent.tick(BEAT_S)
    for name in reports:
        agent.report(name)
    said = written(agent).decode()
    assert all(f'"__name__": "{name}"' in said for name in reports)
    assert set(COMMANDS) == set(HOST_TO_GUEST) - {"refresh", "api-version"}
