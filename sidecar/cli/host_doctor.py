"""``sidecarctl doctor`` where the daemon cannot be reached: the host's own checks, and one look at each domain.

What hangs is left behind in its thread, and does not keep the program from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from sidecar.adapters import host_checks
from sidecar.adapters.host_checks import HookPlaces
from sidecar.adapters.libvirt import Visitor
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.api.views import DoctorView, FindingView
from sidecar.config import Configuration, load_configuration
from sidecar.engine.doctor import ANSWER_S, HELD_AFTER_S, Examination, hide_unused, judge_error, sum_up
from sidecar.engine.ports import Activity, DomainSnapshot
from sidecar.engine.qga_agent import QgaAgent
from sidecar.engine.remedies import Place, find_absent, find_fault
from sidecar.engine.settings import Way
from sidecar.errors import CommandFailedError, DomainGoneError, HypervisorError, NoAnswerError, SidecarError
from sidecar.protocol.qga_wire import is_unsupported
from sidecar.protocol.states import Reason
from sidecar.record.domain_xml import ChannelDevice

T = TypeVar("T")

# Whoever waits at a terminal gets what there is by then.
LIMIT_S = 9.5

# Fewer than half of libvirtd's workers.
AT_A_TIME = 8


def examine(hooks_dir: Path, configuration: Path | None, domain: str | None) -> DoctorView:
    """Look at the host and its domains, or at the domain of this name or UUID, for 10 s at most.

    Raises:
        ConfigurationError: The configuration is wrong.
        DomainGoneError: No active domain is called so.
    """
    loaded = load_configuration(configuration)
    return asyncio.run(_examine(hooks_dir, configuration, loaded, domain))


async def _examine(hooks_dir: Path, file: Path | None, loaded: Configuration, domain: str | None) -> DoctorView:
    state = Path(loaded.paths.state)
    examinations = [_check_daemon(loaded)]
    round_ = _Round(loaded, domain, daemon_runs=host_checks.is_daemon_running(state))
    if domain is None:
        places = HookPlaces(hooks_dir, file, state)
        hook, domains = await asyncio.gather(_in_thread(lambda: host_checks.check_hook(places)), round_.run())
        examinations.append(hook)
    else:
        domains = await round_.run()
    return sum_up([*examinations, *domains])


def _check_daemon(loaded: Configuration) -> Examination:
    down = host_checks.check_daemon(Path(loaded.paths.state))
    if down is not None:
        return Examination(("daemon",), (down,))
    sockets = host_checks.check_sockets(loaded.api)
    return sockets if sockets.findings else host_checks.report_unreached()


class _Round:
    """One look at the domains, several at a time."""

    def __init__(self, loaded: Configuration, domain: str | None, *, daemon_runs: bool) -> None:
        self._loaded, self._domain, self._daemon_runs = loaded, domain, daemon_runs
        self._visitor = Visitor(loaded.libvirt.uri, loaded.channel_names)
        self._dialer = UnixDialer()
        self._places = asyncio.Semaphore(AT_A_TIME)
        self._done: dict[UUID, Examination] = {}

    async def run(self) -> list[Examination]:
        """What was found in time, with a word on what was not."""
        names: dict[UUID, str] = {}
        try:
            async with asyncio.timeout(LIMIT_S):
                names = await self._find_domains()
                async with asyncio.TaskGroup() as group:
                    for uuid, name in names.items():
                        group.create_task(self._look_at(uuid, name))
        except DomainGoneError:
            raise
        except HypervisorError as error:
            return [self._unavailable(str(error))]
        except TimeoutError:
            if not names:
                return [self._unavailable(f"no answer within {LIMIT_S:g} s")]
        missed = [f"domain {name}: not in time" for uuid, name in names.items() if uuid not in self._done]
        return [*self._done.values(), Examination(tuple(missed))]

    def _unavailable(self, problem: str) -> Examination:
        return host_checks.report_libvirt(self._loaded.libvirt.uri, problem)

    async def _find_domains(self) -> dict[UUID, str]:
        listed = await _in_thread(self._visitor.list_domains)
        wanted = {uuid: name for uuid, name in listed if self._domain in (None, name, str(uuid))}
        if self._domain is not None and not wanted:
            raise DomainGoneError(f"no domain {self._domain!a} runs here")
        return wanted

    async def _look_at(self, uuid: UUID, name: str) -> None:
        async with self._places:
            try:
                snapshot = await _in_thread(lambda: self._visitor.inspect_domain(uuid))
            except HypervisorError as error:
                self._done[uuid] = self._unavailable(f"domain {name}: {error}")
                return
            self._done[uuid] = Examination() if snapshot is None else await self._judge(snapshot)

    async def _judge(self, domain: DomainSnapshot) -> Examination:
        if domain.activity is not Activity.RUNNING:
            return Examination((f"domain {domain.name}: it does not run now, and its channels cannot be judged",))
        names = [device.name for device in domain.channels]
        checked = (f"domain {domain.name}: {', '.join(names) or 'no channel'}",)
        wanted = self._loaded.channel_names
        if not names:
            return Examination(checked, (find_absent(domain.name, wanted),) if wanted else ())
        found = await asyncio.gather(*(self._find_reason(domain.uuid, device) for device in domain.channels))
        reasons = dict(zip(names, found, strict=True))
        ovirt = [device for device in domain.channels if self._way(device) is Way.OVIRT]
        hide_unused(reasons, [device.name for device in ovirt if device.opened], [device.name for device in ovirt])
        return Examination(checked, tuple(self._faults(domain, reasons)))

    def _faults(self, domain: DomainSnapshot, reasons: dict[str, Reason | None]) -> list[FindingView]:
        places = (Place(domain.name, device.name, device.path, self._way(device)) for device in domain.channels)
        return [fault for place in places if (fault := find_fault(reasons[place.channel], place)) is not None]

    def _way(self, device: ChannelDevice) -> Way:
        if device.name in self._loaded.qga.channels:
            return Way.LIBVIRT
        return Way.DIRECT if device.name in self._loaded.qga.direct_channels else Way.OVIRT

    async def _find_reason(self, uuid: UUID, device: ChannelDevice) -> Reason | None:
        through_libvirt = self._way(device) is Way.LIBVIRT
        # A daemon that runs is connected itself.
        if not through_libvirt and not self._daemon_runs and await self._dialer.is_in_use(device.path):
            return Reason.SOCKET_BUSY
        if device.opened is False:
            return Reason.PORT_CLOSED
        return await self._ask(uuid) if through_libvirt else None

    async def _ask(self, uuid: UUID) -> Reason | None:
        """What the agent is found to suffer from by asking it what it is."""

        async def call(request: str, answer_s: float, wait_s: float) -> str:
            try:
                async with asyncio.timeout(min(wait_s, HELD_AFTER_S)):
                    return await _in_thread(lambda: self._visitor.call_agent(uuid, request, min(answer_s, ANSWER_S)))
            except TimeoutError as error:
                raise NoAnswerError("libvirt has not returned") from error

        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            report = await QgaAgent(call).ask(lambda: None)
        except CommandFailedError as error:
            return Reason.GUEST_INFO_BLOCKED if is_unsupported(error) else Reason.BAD_REPLY
        except SidecarError as error:
            return judge_error(error, loop.time() - begun, Way.LIBVIRT)
        return Reason.GUEST_FROZEN if report.frozen else None


async def _in_thread(call: Callable[[], T]) -> T:
    """Make a blocking call in a thread of its own, which is left behind when nobody waits for it any more."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # from now on it cannot be cancelled, and so be set by us

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return await asyncio.wrap_future(done)
