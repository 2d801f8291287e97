"""The whole lab of one test run: its directory, its hosts and their cables, and the proof that nothing is left."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from tests.lab.corruption import find_signs
from tests.lab.domain_xml import GuestSpec
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.image import CACHE, Image, build_image, locked
from tests.lab.lab_broker import ADDRESS as BROKER_ADDRESS
from tests.lab.lab_broker import LabBroker
from tests.lab.namespaces import processes_in
from tests.lab.network import connect, links_of_the_machine
from tests.lab.waiting import wait_for

# Every host that ever may be; its place gives its address on 10.77.0.0/24.
HOST_NAMES = ("alpha", "beta", "gamma", "delta")
PROGRAMS = ("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare", "nsenter", "ip", "ldd", "dpkg-deb")
FILES = ("/usr/bin/busybox", "/usr/bin/python3")
# The kernel takes namespaces apart after the last process has ended.
LEFTOVER_TIMEOUT_S = 10.0


def reason_against() -> str | None:
    """Why the lab cannot run on this machine, or None."""
    if os.geteuid() != 0:
        return "not root"
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    missing += [file for file in FILES if not os.path.exists(file)]
    return f"not installed (contrib/setup): {' '.join(missing)}" if missing else None


class Laboratory:
    """Hosts are started when they are first asked for, and stay until `close`."""

    def __init__(self, cache: Path = CACHE) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "runs.lock"):
            _remove_stale_runs(cache)
            self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=cache))
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._cache = cache
        self._image: Image | None = None
        self._hosts: dict[str, Host] = {}
        self._broker: LabBroker | None = None
        self._guests: list[Guest] = []
        self._guest_count = 0
        self._links_before = links_of_the_machine()
        (self.directory / "guests").mkdir()
        (cache / "libvirt-cache").mkdir(exist_ok=True)

    @property
    def image(self) -> Image:
        """What the guests boot; built on first use."""
        if self._image is None:
            self._image = build_image(self._cache)
        return self._image

    @property
    def hosts(self) -> list[Host]:
        """The hosts that have been started."""
        return list(self._hosts.values())

    def host(self, name: str) -> Host:
        """A host with a running libvirtd, cabled to every other one."""
        if name not in self._hosts:
            self._start_host(name)
        return self._hosts[name]

    def broker(self) -> LabBroker:
        """The message broker, cabled to every host; started when it is first asked for."""
        if self._broker is None:
            self._broker = LabBroker(self.directory / "broker")  # from now on `close` ends it, whatever fails
            self._broker.start()
            for host in self.hosts:
                connect(self._broker.inside, BROKER_ADDRESS, host.inside, host.address)
        return self._broker

    def guest(self, spec: GuestSpec) -> Guest:
        """A guest that is defined nowhere yet; one without a name gets a name that no other had."""
        self._guest_count += 1
        named = spec if spec.name else spec.named(f"vm{self._guest_count}")
        guest = Guest(named, self.image, self.directory / "guests")
        self._guests.append(guest)
        return guest

    def find_corruption(self) -> list[str]:
        """What the kernels of the guests that there are now said of corrupted memory."""
        consoles = [guest.serial_log for guest in self._guests]
        return [sign for log in consoles if log.exists() for sign in find_signs(log.read_text(errors="replace"))]

    def drop(self, guest: Guest) -> None:
        """Destroys a guest."""
        self._guests.remove(guest)
        guest.destroy()

    def save_artefacts(self, directory: Path) -> None:
        """Copies every guest's XML and console and every host's logs."""
        for guest in self._guests:
            guest.save_artefacts(directory / guest.name)
        for host in self.hosts:
            (directory / host.name).mkdir(parents=True)
            for log in host.log_files():
                shutil.copy(log, directory / host.name)
        if self._broker is not None:
            shutil.copy(self._broker.node.log, directory)

    def close(self) -> None:
        """Ends all hosts and removes the run's directory."""
        for host in self.hosts:
            host.stop()
        if self._broker is not None:
            self._broker.stop()
        shutil.rmtree(self.directory)
        self._lock.close()

    def leftovers(self) -> list[str]:
        """Whatever of this lab there still is on the machine after `close`, given a moment to vanish."""
        try:
            wait_for(lambda: not self._leftovers(), LEFTOVER_TIMEOUT_S, "the lab to be gone", interval_s=0.1)
        except TimeoutError:
            return self._leftovers()
        return []

    def _start_host(self, name: str) -> None:
        address = f"10.77.0.{HOST_NAMES.index(name) + 1}"
        host = Host(name, address, self.directory / name, self._cache / "libvirt-cache")
        others = self.hosts
        self._hosts[name] = host  # from now on `close` ends it, whatever fails
        host.start()
        for other in others:
            connect(host.inside, host.address, other.inside, other.address)
        if self._broker is not None:
            connect(self._broker.inside, BROKER_ADDRESS, host.inside, host.address)
        host.start_libvirtd()

    def _leftovers(self) -> list[str]:
        machines = [host.inside for host in self.hosts] + ([self._broker.inside] if self._broker is not None else [])
        found = processes_in({identity for inside in machines for identity in inside.ids})
        found += [f"network link {link}" for link in sorted(links_of_the_machine() - self._links_before)]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if str(self.directory) in line]
        sockets = Path("/proc/net/unix").read_text().splitlines()
        found += [f"socket {line}" for line in sockets if str(self.directory) in line]
        if self.directory.exists():
            found.append(f"directory {self.directory}")
        return found


def _remove_stale_runs(cache: Path) -> None:
    """Removes the directories of runs that were killed: their lock is free."""
    for lock in cache.glob("run-*/lock"):
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.parent, ignore_errors=True)
