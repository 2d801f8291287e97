"""Where attacks take place: one daemon, an attacker, and a neighbour who must notice nothing of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from tests.lab.conftest import GuestFactory
from tests.lab.domain_xml import OVIRT_PORT, GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.hostile_guest import HostileGuest
from tests.lab.hostile_neighbour import Service, measure_service
from tests.lab.hostile_vitals import LogWatch, Vitals, read_vitals
from tests.lab.own_agent import OWN
from tests.lab.records import read_record, wait_agreed
from tests.lab.waiting import wait_for

QUIET_S = 3.0
SETTLE_TIMEOUT_S = 20.0

# What the neighbour may notice, at most: a few times what it has in quiet times, and what a busy machine adds to that.
# A daemon that reads a flooding guest for as long as there is something to read keeps it waiting until that one stops.
SLOWER_TIMES = 4
SLOWER_MEDIAN_S = 0.1
SLOWER_WORST_S = 1.5
# The neighbour's heart beats twice a second.
HEARTBEAT_S = 0.5

# What an attack may leave behind: a line that is not over yet, the last word on each matter, and what the allocator
# keeps of the largest answer that was ever rendered.
GROWTH_LIMIT_MIB = 16.0
# The pools of threads have their ends; nothing that a guest does makes a new one.
THREADS_LIMIT = 16
LOG_LIMIT_LINES = 12


class Arena:
    """A host with its daemon, an attacker and the neighbour; all else is compared to how they are in quiet times."""

    def __init__(
        self, host: Host, neighbour: Guest, attacker: HostileGuest, tell: Callable[[str, float], None]
    ) -> None:
        """``tell`` notes figures for the end of the run."""
        self.host, self.neighbour, self.attacker, self._tell = host, neighbour, attacker, tell
        attacker.start()
        attacker.agree()
        attacker.prove_heard()
        agreed = wait_agreed(neighbour, 4)
        self._undisturbed = agreed.channels, agreed.arrivals
        self.before = read_vitals(host)
        with measure_service(neighbour) as service:
            wait_seconds(QUIET_S)
        self.quiet = service
        self.warm = read_vitals(host)
        tell(f"quiet: {service}; daemon {self.before.resident_mib:.1f}, warm {_describe(self.warm)}", service.median_s)

    @contextmanager
    def watch(self, what: str, limit_lines: int = LOG_LIMIT_LINES) -> Iterator[None]:
        """Meanwhile something happens; afterwards the neighbour and the daemon must be as in quiet times."""
        log, begun = LogWatch(self.host), monotonic()
        with measure_service(self.neighbour) as service:
            yield
        vitals = read_vitals(self.host)
        self._tell(f"{what}: {service}; daemon {_describe(vitals)}", monotonic() - begun)
        self._check_service(service)
        self._check_vitals(vitals)
        log.check(limit_lines)

    def _check_service(self, service: Service) -> None:
        assert service.failures == []
        record = read_record(self.neighbour)
        assert record is not None
        assert (record.channels, record.arrivals) == self._undisturbed
        quiet = self.quiet
        assert service.median_s < SLOWER_TIMES * quiet.median_s + SLOWER_MEDIAN_S, f"{service}; in quiet times {quiet}"
        assert service.worst_s < SLOWER_TIMES * quiet.worst_s + SLOWER_WORST_S, f"{service}; in quiet times {quiet}"
        assert service.oldest_heartbeat_s < HEARTBEAT_S + SLOWER_WORST_S

    def _check_vitals(self, vitals: Vitals) -> None:
        assert vitals.resident_mib - self.warm.resident_mib < GROWTH_LIMIT_MIB
        assert vitals.threads <= THREADS_LIMIT
        # Who has asked something a moment ago may still be hanging up.
        fewer = lambda: read_vitals(self.host).descriptors <= self.warm.descriptors  # noqa: E731
        wait_for(fewer, SETTLE_TIMEOUT_S, f"no more than {self.warm.descriptors} descriptors")


@contextmanager
def open_arena(
    host: Host, boot: GuestFactory, attacker_name: str, tell: Callable[[str, float], None]
) -> Iterator[Arena]:
    """The host with hook and daemon, and both guests; afterwards the host is as it was."""
    host.clean()
    host.install_hook()
    host.start_sidecard()
    try:
        attacker = HostileGuest(boot(GuestSpec(name=attacker_name, channels=(OVIRT_PORT,), agent=None)))
        yield Arena(host, boot(GuestSpec(name="neighbour", channels=(OVIRT_PORT,), agent=OWN)), attacker, tell)
        assert host.stop_sidecard() == 0
        assert "Traceback" not in host.log_text()
    finally:
        host.clean()


def wait_seconds(seconds: float) -> None:
    """Lets time pass, where passing time is the very thing that is wanted."""
    end = monotonic() + seconds
    wait_for(lambda: monotonic() >= end, seconds + 5, "time to pass")


def _describe(vitals: Vitals) -> str:
    return f"{vitals.resident_mib:.1f} MiB, {vitals.descriptors} descriptors, {vitals.threads} threads"
