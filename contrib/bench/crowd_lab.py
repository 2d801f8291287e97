"""What the benches with many real guests share: small guests that boot together, and migrate together."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from contrib.bench.arrival_observer import Observer
from tests.lab.domain_xml import OVIRT_PORT, AgentSpec, GuestSpec, channel_state
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.waiting import wait_for

MEMORY_MIB = 128
SPEC = GuestSpec(channels=(OVIRT_PORT,), agent=AgentSpec(era=OWN_AGENT, heartbeat_s=5.0), memory_mib=MEMORY_MIB)

# A guest that gets no CPU while it boots panics ("IO-APIC + timer doesn't work"): so few at a time, and once more then.
STARTERS = 4
BOOT_TIMEOUT_S = 120.0
BOOT_ATTEMPTS = 3

# What ends a hang; a machine with few CPUs takes a minute.
MIGRATION_TIMEOUT_S = 600.0
AGREE_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 60.0


# What a kernel says that has crashed; others hang without a word. Where many migrate at once without hardware
# virtualization some guests in a hundred come so.
_CRASH = b"---[ end "


class Crowd:
    """The guests, all on one host at a time; ``crashes`` counts arrivals of guests that had crashed or hung.

    Whoever has crashed is booted anew before the next move, and nobody is waited for who never will speak.
    """

    def __init__(self, lab: Laboratory, host: Host, count: int) -> None:
        """Returns when the agent of each is there."""
        self.crashes = 0
        self.guests = [lab.guest(SPEC) for _ in range(count)]
        self._read: dict[str, int] = {}
        self._hung: set[str] = set()
        for guest in self.guests:
            guest.define(host)
            guest.start()
            self._read[guest.name] = 0
            if guest is self.guests[-1] or len(self._read) % STARTERS == 0:
                self._wait_all()

    def evacuate(self, guests: Sequence[Guest], destination: Host, observer: Observer) -> list[float]:
        """These migrate at once; for each the milliseconds from RESUMED to the agreement's being read."""
        self._wait_all()
        observer.forget()
        with ThreadPoolExecutor(len(guests)) as pool:
            list(pool.map(lambda guest: guest.migrate(destination, timeout_s=MIGRATION_TIMEOUT_S), guests))
        with suppress(TimeoutError):
            wait_for(lambda: not self._missing(guests, observer), AGREE_TIMEOUT_S, "all agreements")
        self._require_dead(self._missing(guests, observer))
        arrived = [guest for guest in guests if guest.name in observer.agreed]
        self.crashes += len(guests) - len(arrived)
        return [round(observer.took_ms(guest.name), 1) for guest in arrived]

    def _missing(self, guests: Sequence[Guest], observer: Observer) -> list[Guest]:
        return [guest for guest in guests if guest.name not in observer.agreed and not self._has_crashed(guest)]

    def _require_dead(self, guests: Sequence[Guest]) -> None:
        """Whoever said nothing must be one that says nothing on its other channel, either.

        Raises:
            SystemExit: A guest lives, and there is no agreement with it.
        """
        for guest in guests:
            try:
                guest.wait_booted(ANSWER_TIMEOUT_S)
            except (TimeoutError, OSError):
                self._hung.add(guest.name)
            else:
                raise SystemExit(f"{guest.name} lives, and its record says {guest.record()}")

    def _wait_all(self) -> None:
        """Until the agent of each that was started is there, also of those that crashed, which boot anew."""
        for guest in self.guests:
            if guest.name in self._read:
                self._boot(guest)

    def _boot(self, guest: Guest) -> None:
        for _ in range(BOOT_ATTEMPTS):
            if not self._has_crashed(guest) and guest.name not in self._hung:
                with suppress(TimeoutError):
                    return wait_present(guest)
            self._read[guest.name] = guest.serial_log.stat().st_size
            self._hung.discard(guest.name)
            guest.reset()
        return wait_present(guest)

    def _has_crashed(self, guest: Guest) -> bool:
        with guest.serial_log.open("rb") as log:
            log.seek(self._read[guest.name])
            return _CRASH in log.read()


def wait_present(guest: Guest) -> None:
    """Returns when something in the guest has opened its channel."""
    what = f"the agent of {guest.name} to be there"
    wait_for(lambda: channel_state(guest.dumpxml(), OVIRT_PORT) == "connected", BOOT_TIMEOUT_S, what, interval_s=0.5)
