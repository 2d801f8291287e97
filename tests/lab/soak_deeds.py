"""How each kind of step is done with virsh, signals and files, while the vigils are told what to expect."""

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from tests.lab.api import api
from tests.lab.domain_xml import QGA_PORT, RECORD_URI
from tests.lab.guest import Guest
from tests.lab.guest_qga import start_qga, stop_qga
from tests.lab.harm import Vigil
from tests.lab.host import Host
from tests.lab.hostile_qga import wait_port
from tests.lab.records import read_record, remove_record
from tests.lab.sidecard import CONFIG
from tests.lab.soak_sight import NOTE_URI, render_note
from tests.lab.waiting import wait_for
from tests.soak.plan import Kind, Step
from tests.soak.world import World

TIMEOUT_S = 60.0
BOOT_TIMEOUT_S = 180.0

FORGED = '<agreement host="omega" host-uuid="none" run="none" arrival="start" arrivals="77" arrived="never"/>'

Deed = Callable[[Step], None]


class Deeds:
    """See the module; `do` returns when the step is done, and leaves everything running."""

    def __init__(self, hosts: Mapping[str, Host], guests: Mapping[str, Guest], vigils: Mapping[str, Vigil]) -> None:
        self._hosts, self._guests, self._vigils = hosts, guests, vigils
        self._world: World
        self._deeds: Mapping[Kind, Deed] = {
            Kind.MIGRATE: lambda step: self._migrate(step),
            Kind.POSTCOPY: lambda step: self._migrate(step, postcopy=True),
            Kind.PEER_TO_PEER: lambda step: self._migrate(step, "--p2p"),
            Kind.SUSPENDED: self._migrate_suspended,
            Kind.UNSEEN: self._migrate_unseen,
            Kind.INTERRUPTED: self._migrate_interrupted,
            Kind.FORSAKEN: self._migrate_forsaken,
            Kind.CANCELLED: lambda step: self._cancel(step, self._is_there),
            Kind.CALLED_BACK: lambda step: self._cancel(step, self._is_expected),
            Kind.SAVE: self._save,
            Kind.PAUSE: self._pause,
            Kind.POWER: self._power,
            Kind.RESET: self._reset,
            Kind.AGENT: lambda step: self._restart_agent(self._guests[step.guest]),
            Kind.QGA: self._restart_qga,
            Kind.NOTE: self._change_note,
            Kind.REMOVED: self._remove_record,
            Kind.FORGED: self._forge_record,
            Kind.DAEMON_STOPPED: lambda step: self._restart_daemon(step.host, signal.SIGTERM),
            Kind.DAEMON_KILLED: lambda step: self._restart_daemon(step.host, signal.SIGKILL),
            Kind.LIBVIRTD_STOPPED: lambda step: self._restart_libvirtd(step, kill=False),
            Kind.LIBVIRTD_KILLED: lambda step: self._restart_libvirtd(step, kill=True),
            Kind.CAP: self._change_cap,
        }

    def do(self, step: Step, world: World) -> None:
        """Do the step; `world` is as it is before it."""
        self._world = world
        self._deeds[step.kind](step)

    def start_daemon(self, host: str, world: World) -> None:
        """With the host's caps of that world."""
        self._hosts[host].start_sidecard(world.caps[host].render())

    # --- after a panic

    def start_missing_daemons(self, world: World) -> None:
        """A step that failed may have left a host without."""
        for name, host in self._hosts.items():
            if host.sidecard.process is None:
                self.start_daemon(name, world)

    def begin_anew(self, name: str, host: str) -> None:
        """Forget the guest wherever it is, and define and start it there as at first."""
        guest = self._guests[name]
        with self._standing(name):
            for place in self._hosts.values():
                guest.moved_to(place)
                guest.destroy()
            guest.define(self._hosts[host])
            guest.start()
            wait_booted(guest)

    # --- the guest moves

    def _migrate(self, step: Step, *options: str, postcopy: bool = False) -> None:
        guest = self._guests[step.guest]
        with self._moving(step.guest):
            guest.migrate(self._hosts[step.host], *options, postcopy=postcopy)

    def _migrate_suspended(self, step: Step) -> None:
        guest, destination = self._guests[step.guest], self._hosts[step.host]
        with self._standing(step.guest):
            guest.migrate(destination, "--suspend")
            destination.virsh("resume", guest.name)

    def _migrate_unseen(self, step: Step) -> None:
        self._hosts[step.host].stop_sidecard(signal.SIGKILL)
        before = read_record(self._guests[step.guest])
        self._migrate(step)
        assert read_record(self._guests[step.guest]) == before, "nobody was there to write another record"
        self.start_daemon(step.host, self._world)

    def _migrate_interrupted(self, step: Step) -> None:
        guest, destination = self._guests[step.guest], self._hosts[step.host]
        with self._moving(step.guest):
            virsh = guest.here.popen(["virsh", *guest.migrate_command(destination)], stderr=subprocess.PIPE)
            wait_for(lambda: self._is_there(step), TIMEOUT_S, f"{guest.name} to be expected on {step.host}")
            destination.stop_sidecard(signal.SIGKILL)
            self.start_daemon(step.host, self._world)
            _, errors = virsh.entered.communicate(timeout=TIMEOUT_S)
            assert virsh.poll() == 0, errors
            guest.moved_to(destination)

    def _migrate_forsaken(self, step: Step) -> None:
        source = self._world.guests[step.guest].host
        assert self._hosts[source].stop_sidecard() == 0
        self._migrate(step)
        self.start_daemon(source, self._world)

    def _cancel(self, step: Step, ready: Callable[[Step], bool]) -> None:
        """A migration that takes for ever, called off once the destination is `ready`."""
        guest, destination = self._guests[step.guest], self._hosts[step.host]
        command = guest.migrate_command(destination, "--bandwidth", "1")
        virsh = guest.here.popen(["virsh", *command], stderr=subprocess.DEVNULL)
        wait_for(lambda: ready(step), TIMEOUT_S, f"{guest.name} to be expected on {step.host}")
        wait_for(lambda: self._abort(guest), TIMEOUT_S, "the migration to be called off")
        assert virsh.wait(TIMEOUT_S) != 0
        wait_for(lambda: not self._is_there(step), TIMEOUT_S, f"{step.host} to be without {guest.name} again")

    def _abort(self, guest: Guest) -> bool:
        return guest.here.run(["virsh", "domjobabort", guest.name], check=False).returncode == 0

    def _is_there(self, step: Step) -> bool:
        return self._guests[step.guest].name in self._hosts[step.host].virsh("list", "--all", "--name").split()

    def _is_expected(self, step: Step) -> bool:
        with api(self._hosts[step.host]) as client:
            return self._guests[step.guest].name in {domain.name for domain in client.list()}

    # --- the guest stops and goes on

    def _save(self, step: Step) -> None:
        guest = self._guests[step.guest]
        with self._standing(step.guest):
            guest.here.virsh("managedsave", guest.name)
            guest.start()

    def _pause(self, step: Step) -> None:
        guest = self._guests[step.guest]
        with self._standing(step.guest):
            guest.here.virsh("suspend", guest.name)
            wait_for(lambda: self._activity(guest) == "paused", TIMEOUT_S, "the daemon to know")
            guest.here.virsh("resume", guest.name)

    def _activity(self, guest: Guest) -> str:
        with api(guest.here) as client:
            return client.show(guest.name).activity

    def _power(self, step: Step) -> None:
        guest = self._guests[step.guest]
        with self._standing(step.guest):
            guest.here.virsh("destroy", guest.name)
            guest.start()
            wait_booted(guest)

    def _reset(self, step: Step) -> None:
        guest = self._guests[step.guest]
        with self._standing(step.guest):
            guest.reset()
            wait_booted(guest)

    # --- in the guest, and in its XML

    def _restart_agent(self, guest: Guest) -> None:
        guest.agent_restart()

    def _restart_qga(self, step: Step) -> None:
        guest = self._guests[step.guest]
        stop_qga(guest)
        wait_port(guest, "disconnected")
        start_qga(guest)
        wait_port(guest, "connected", channel=QGA_PORT)

    def _change_note(self, step: Step) -> None:
        guest, edition = self._guests[step.guest], self._world.guests[step.guest].note + 1
        put_note(guest, edition)

    def _remove_record(self, step: Step) -> None:
        guest = self._guests[step.guest]
        remove_record(guest)
        assert read_record(guest) is None
        self._restart_agent(guest)

    def _forge_record(self, step: Step) -> None:
        guest = self._guests[step.guest]
        argv = ["metadata", guest.name, RECORD_URI, "--key", "forged", "--set", FORGED, "--live", "--config"]
        guest.here.virsh(*argv)
        self._restart_agent(guest)

    # --- the host's programs

    def _restart_daemon(self, host: str, number: int) -> None:
        status = self._hosts[host].stop_sidecard(number)
        assert status == (0 if number == signal.SIGTERM else -number)
        self.start_daemon(host, self._world)

    def _restart_libvirtd(self, step: Step, *, kill: bool) -> None:
        host = self._hosts[step.host]
        connected = host.log_text().count("connected to libvirt on")
        with ExitStack() as stack:
            for vigil in self._vigils.values():
                stack.enter_context(vigil.libvirtd_broken(host))
            host.restart_libvirtd(kill=kill)
        what = f"the daemon of {host.name} to be connected again"
        wait_for(lambda: host.log_text().count("connected to libvirt on") > connected, TIMEOUT_S, what)

    def _change_cap(self, step: Step) -> None:
        host, process = self._hosts[step.host], self._hosts[step.host].sidecard.process
        assert step.caps is not None
        assert process is not None
        said = len(host.log_text())
        host.path(CONFIG).write_text(step.caps.render())
        process.signal(signal.SIGHUP)
        wait_for(lambda: "configuration reloaded" in host.log_text()[said:], TIMEOUT_S, "the new cap to be read")

    # --- what the vigils are told

    @contextmanager
    def _moving(self, guest: str) -> Iterator[None]:
        with self._vigils[guest].moving():
            yield

    @contextmanager
    def _standing(self, guest: str) -> Iterator[None]:
        with self._vigils[guest].standing():
            yield


def wait_booted(guest: Guest) -> None:
    """However long it takes on a busy machine; what is said to it meanwhile may find its port full, or no port."""

    def booted() -> bool:
        with suppress(OSError):
            guest.wait_booted()
            return True
        return False

    wait_for(booted, BOOT_TIMEOUT_S, f"{guest.name} to have booted", interval_s=0.5)


def put_note(guest: Guest, edition: int) -> None:
    """An operator's edit, which nobody else has any business with."""
    argv = ["metadata", guest.name, NOTE_URI, "--key", "lab", "--set", render_note(edition), "--live", "--config"]
    guest.here.virsh(*argv)
