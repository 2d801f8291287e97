"""``sidecarctl doctor`` without a daemon, with a libvirt that answers as told; on real hosts in tests/lab."""

import asyncio
import fcntl
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from sidecar.cli import host_doctor
from sidecar.cli.host_doctor import examine
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.errors import (
    AgentDisconnectedError,
    AgentPoisonedError,
    ConfigurationError,
    DomainGoneError,
    HypervisorDownError,
    HypervisorError,
    JobHeldError,
    SidecarError,
)
from sidecar.protocol.states import Reason
from sidecar.record.domain_xml import ChannelDevice
from tests.fakes.qga_agent import FakeQga, through_libvirt

NEW, OLD, QGA = "ovirt-guest-agent.0", "com.redhat.rhevm.vdsm", "org.qemu.guest_agent.0"


class FakeVisitor:
    """Libvirt with these domains, which it shows unless there is a `refusal`; the calls that `hangs` names do."""

    def __init__(self) -> None:
        self.domains: dict[UUID, DomainSnapshot] = {}
        self.agents: dict[UUID, FakeQga | SidecarError] = {}
        self.down: HypervisorError | None = None
        self.refusal: HypervisorError | None = None
        self.hangs: set[str] = set()
        self.end = threading.Event()
        self.asked_most = self._asked = 0

    def add(self, *channels: ChannelDevice, activity: Activity = Activity.RUNNING, agent: object = None) -> UUID:
        uuid = UUID(int=len(self.domains) + 1)
        name = f"vm{uuid.int}"
        self.domains[uuid] = DomainSnapshot(uuid, name, activity, None, "run", 1, channels, None, False)
        self.agents[uuid] = agent if isinstance(agent, (FakeQga, SidecarError)) else FakeQga()
        return uuid

    def list_domains(self) -> list[tuple[UUID, str]]:
        self._wait("list_domains")
        return [(uuid, domain.name) for uuid, domain in self.domains.items()]

    def inspect_domain(self, uuid: UUID) -> DomainSnapshot | None:
        self._wait("inspect_domain")
        if self.refusal is not None:
            raise self.refusal
        return self.domains[uuid] if uuid in self.agents else None

    def call_agent(self, uuid: UUID, request: str, answer_s: float) -> str:
        self._asked += 1
        self.asked_most = max(self.asked_most, self._asked)
        self._wait("call_agent")
        self._asked -= 1
        agent = self.agents[uuid]
        if isinstance(agent, SidecarError):
            raise agent
        reply = agent.answer(request)
        assert reply is not None
        return through_libvirt(reply)

    def _wait(self, call: str) -> None:
        if call in self.hangs:
            self.end.wait(20)
        if self.down is not None:
            raise self.down


@pytest.fixture
def visitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVisitor]:
    made = FakeVisitor()
    monkeypatch.setattr(host_doctor, "Visitor", lambda _uri, _names: made)
    yield made
    made.end.set()
    for thread in threading.enumerate():
        if thread.name == "doctor":
            thread.join(10)


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.toml"
    path.write_text(
        f'[paths]\nspool = "{tmp_path}/spool"\nstate = "{tmp_path}"\n'
        f'[api]\nsocket = "{tmp_path}/api.sock"\nreadonly_socket = "{tmp_path}/api-ro.sock"\n'
        'socket_group = "no such group"\n'
        '[qga]\ndirect_channels = ["direct.0"]\n'
    )
    return path


@pytest.fixture
def find(configuration: Path, tmp_path: Path) -> Callable[[], list[tuple[str, str | None]]]:
    """What is wrong with the one domain: code and channel of each fault."""

    def examine_domain() -> list[tuple[str, str | None]]:
        view = examine(tmp_path / "hooks", configuration, "vm1")
        assert view.findings[0].code == "daemon-down"
        assert all(finding.domain == "vm1" for finding in view.findings[1:])
        return [(finding.code, finding.channel) for finding in view.findings[1:]]

    return examine_domain


Find = Callable[[], list[tuple[str, str | None]]]


def channel(name: str, *, opened: bool | None = True, path: str = "/nowhere") -> ChannelDevice:
    return ChannelDevice(name, "channel0", path, opened)


def test_the_whole_host(visitor: FakeVisitor, configuration: Path, tmp_path: Path) -> None:
    visitor.add(channel(NEW), channel(QGA))
    view = examine(tmp_path / "hooks", configuration, None)
    assert [finding.code for finding in view.findings] == ["daemon-down", "hook-missing"]
    assert not view.healthy
    assert f"domain vm1: {NEW}, {QGA}" in view.checked
    assert any(text.startswith("spool ") for text in view.checked)


@pytest.mark.parametrize("name", ["vm1", str(UUID(int=1))])
def test_one_domain_by_name_or_uuid(visitor: FakeVisitor, configuration: Path, tmp_path: Path, name: str) -> None:
    visitor.add(channel(NEW, opened=False))
    visitor.add(channel(NEW, opened=False))
    view = examine(tmp_path / "hooks", configuration, name)
    assert [(finding.code, finding.domain) for finding in view.findings] == [
        ("daemon-down", None),
        ("port-closed", "vm1"),
    ]


def test_no_such_domain(visitor: FakeVisitor, configuration: Path, tmp_path: Path) -> None:
    with pytest.raises(DomainGoneError, match="no domain 'vm1'"):
        examine(tmp_path / "hooks", configuration, "vm1")


def test_a_wrong_configuration(configuration: Path, tmp_path: Path) -> None:
    configuration.write_text("[x]\n")
    with pytest.raises(ConfigurationError):
        examine(tmp_path / "hooks", configuration, None)


class TestChannels:
    def test_none(self, visitor: FakeVisitor, find: Find) -> None:
        visitor.add()
        assert find() == [("channel-absent", QGA)]

    def test_closed(self, visitor: FakeVisitor, find: Find) -> None:
        visitor.add(channel(NEW, opened=False), channel(QGA, opened=False), channel("direct.0", opened=False))
        assert find() == [("port-closed", NEW), ("port-closed", QGA), ("port-closed", "direct.0")]

    def test_of_two_ovirt_channels_one_is_enough(self, visitor: FakeVisitor, find: Find) -> None:
        visitor.add(channel(NEW, opened=False), channel(OLD))
        assert find() == []

    @pytest.mark.parametrize("activity", [Activity.PAUSED, Activity.INCOMING])
    def test_of_a_guest_that_stands(self, visitor: FakeVisitor, find: Find, activity: Activity) -> None:
        visitor.add(channel(NEW, opened=False), activity=activity)
        assert find() == []

    @pytest.mark.parametrize("name", [NEW, "direct.0"])
    def test_another_client_on_the_socket(self, visitor: FakeVisitor, find: Find, tmp_path: Path, name: str) -> None:
        path = str(tmp_path / "channel")
        visitor.add(channel(name, path=path))
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(path)
            listener.listen()
            assert find() == []
            client.connect(path)
            served, _ = listener.accept()
            with served:
                assert find() == [("socket-busy", name)]
        assert find() == []


class TestAgents:
    @pytest.mark.parametrize(
        ("agent", "code"),
        [
            (FakeQga(), None),
            (FakeQga(knows_id=False, version="2.11.1"), None),
            (FakeQga(frozen=True), Reason.GUEST_FROZEN),
            (FakeQga(blocked={"guest-info"}), Reason.GUEST_INFO_BLOCKED),
            (FakeQga(results={"guest-info": 7}), Reason.BAD_REPLY),
            (FakeQga(results={"guest-info": "no such luck"}), Reason.BAD_REPLY),
            (AgentPoisonedError(""), Reason.AGENT_POISONED),
            (JobHeldError(""), Reason.AGENT_JOB_HELD),
            (AgentDisconnectedError(""), None),
        ],
    )
    def test_is_asked(
        self, visitor: FakeVisitor, find: Find, agent: FakeQga | SidecarError, code: Reason | None
    ) -> None:
        visitor.add(channel(QGA), agent=agent)
        assert find() == ([] if code is None else [(code.value, QGA)])

    def test_when_libvirt_does_not_return(
        self, visitor: FakeVisitor, find: Find, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_doctor, "HELD_AFTER_S", 0.2)
        monkeypatch.setattr("sidecar.engine.doctor.HELD_AFTER_S", 0.2)
        visitor.hangs = {"call_agent"}
        visitor.add(channel(QGA))
        assert find() == [("agent-job-held", QGA)]


class TestLibvirt:
    def test_that_is_away(self, visitor: FakeVisitor, configuration: Path, tmp_path: Path) -> None:
        visitor.down = HypervisorDownError("refused")
        view = examine(tmp_path / "hooks", configuration, "vm1")
        assert [finding.code for finding in view.findings] == ["daemon-down", "libvirt-unavailable"]
        assert "refused" in view.findings[1].problem

    def test_that_refuses_one_domain(self, visitor: FakeVisitor, configuration: Path, tmp_path: Path) -> None:
        visitor.add(channel(QGA))
        visitor.refusal = HypervisorError("no such luck")
        view = examine(tmp_path / "hooks", configuration, "vm1")
        assert "domain vm1: no such luck" in view.findings[1].problem

    def test_a_domain_that_ends_meanwhile(self, visitor: FakeVisitor, find: Find) -> None:
        del visitor.agents[visitor.add(channel(QGA, opened=False))]
        assert find() == []

    @pytest.mark.parametrize(
        ("call", "codes"),
        [("list_domains", ["daemon-down", "libvirt-unavailable"]), ("inspect_domain", ["daemon-down"])],
    )
    def test_that_hangs_is_left_behind(
        self,
        visitor: FakeVisitor,
        configuration: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        call: str,
        codes: list[str],
    ) -> None:
        monkeypatch.setattr(host_doctor, "LIMIT_S", 0.2)
        visitor.hangs = {call}
        visitor.add(channel(QGA))
        begin = time.monotonic()
        view = examine(tmp_path / "hooks", configuration, "vm1")
        assert time.monotonic() - begin < 5
        assert [finding.code for finding in view.findings] == codes
        assert ("domain vm1: not in time" in view.checked) == (call == "inspect_domain")

    def test_is_asked_a_few_things_at_a_time(
        self, visitor: FakeVisitor, configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_doctor, "LIMIT_S", 0.5)
        visitor.hangs = {"call_agent"}
        for _ in range(host_doctor.AT_A_TIME + 5):
            visitor.add(channel(QGA))
        view = examine(tmp_path / "hooks", configuration, None)
        assert visitor.asked_most == host_doctor.AT_A_TIME
        assert sum("not in time" in text for text in view.checked) == len(visitor.domains)


class TestDaemonThatRuns:
    @pytest.fixture(autouse=True)
    def locked(self, tmp_path: Path) -> Iterator[None]:
        with (tmp_path / "sidecard.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def test_its_sockets_are_gone(self, visitor: FakeVisitor, configuration: Path, tmp_path: Path) -> None:
        view = examine(tmp_path / "hooks", configuration, None)
        assert [finding.code for finding in view.findings][:2] == ["socket-missing", "socket-missing"]

    def test_it_does_not_answer_and_has_its_channels(
        self, visitor: FakeVisitor, configuration: Path, tmp_path: Path
    ) -> None:
        visitor.add(channel(NEW, path=str(tmp_path / "channel")))
        with (
            served(tmp_path / "api.sock", 0o660),
            served(tmp_path / "api-ro.sock", 0o666),
            served(tmp_path / "channel", 0o600) as _listener,
            socket.socket(socket.AF_UNIX) as client,
        ):
            client.connect(str(tmp_path / "channel"))
            view = examine(tmp_path / "hooks", configuration, "vm1")
        assert [(finding.code, finding.problem) for finding in view.findings] == [
            ("daemon-down", "sidecard runs, and was not reached")
        ]


def served(path: Path, mode: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    path.chmod(mode)
    return listener


def test_a_call_that_nobody_waits_for_any_more_says_nothing() -> None:
    release, left = threading.Event(), threading.Event()

    def call() -> None:
        release.wait(10)
        left.set()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await host_doctor._in_thread(call)

    asyncio.run(give_up())
    release.set()
    assert left.wait(10)
