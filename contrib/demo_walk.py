"""The walk of ``contrib/demo``: one guest, two hosts, four stops, a look ahead, and one refusal."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import repeat
from time import monotonic
from types import FrameType
from xml.etree import ElementTree

from sidecar.api.problems import ProblemError
from sidecar.client import DEFAULT_SOCKET, Client
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, AgentSpec, GuestSpec
from tests.lab.guest import Guest
from tests.lab.guest_files.control import OWN_AGENT
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory, reason_against
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

AGREEMENT_TIMEOUT_S = 30.0
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
XPATH = '//*[local-name()="agreement"]'
TOOLS = '[tools]\ncurrent = {guest-tools = "0.1"}\n'
CAPS = '[upgrade_levels]\novirt = 2\nqga = "5.2"\n'
CHANNELS = (OVIRT_PORT, QGA_PORT)
AGENT = AgentSpec(era=OWN_AGENT, heartbeat_s=5.0)
OFFER = "beta.json"
POLICY_URI = "urn:libvirt-sidecar:policy:1"
POLICY = '<policy><require dialect="ovirt" min-version="3"/></policy>'


class Stage:
    """What the walk says: one line while something goes on, which its outcome replaces on a terminal."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._stop = 0

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what goes on; on a terminal the line is gone when it is done, in a pipe there is none."""
        if self._terminal:
            print(f"\r\x1b[K... {what}", end="", flush=True)
        try:
            yield
        finally:
            if self._terminal:
                print("\r\x1b[K", end="", flush=True)

    def show(self, what: str, guest: Guest) -> None:
        """One stop: the agreement as virsh shows it, and how long it took."""
        self._stop += 1
        with self.doing("waiting for the agreement"):
            with Client(str(guest.here.path(DEFAULT_SOCKET))) as client:
                client.wait(guest.name, timeout_s=AGREEMENT_TIMEOUT_S)
            text = wait_for(lambda: agreed_here(guest), AGREEMENT_TIMEOUT_S, f"{guest.name} to tell of its tools")
        record = ElementTree.fromstring(text)
        print(
            f"{self._stop}. {what}; agreed after the arrival:", "; ".join(map(_tell, _channels(record), repeat(record)))
        )
        print(f"   # virsh dumpxml {guest.name} --xpath '{XPATH}'")
        print("".join(f"   {line}\n" for line in text.splitlines()), flush=True)


def _channels(record: ElementTree.Element) -> list[ElementTree.Element]:
    return [child for child in record if child.tag.endswith("}channel")]


def _tell(channel: ElementTree.Element, record: ElementTree.Element) -> str:
    took = datetime.fromisoformat(channel.attrib["since"]) - datetime.fromisoformat(record.attrib["arrived"])
    return f"{channel.attrib['dialect']} {channel.attrib['version']} ({took.total_seconds() * 1000:.0f} ms)"


def agreed_here(guest: Guest) -> str | None:
    """The record's text, once it is this host's and agreed."""
    text = guest.here.virsh("dumpxml", guest.name, "--xpath", XPATH, check=False).strip()
    if not text:
        return None
    record = ElementTree.fromstring(text)
    agreed = [channel.get("state") for channel in _channels(record)] == ["agreed"] * len(CHANNELS)
    told = any(child.get("source") == "guest-tools" for child in record)
    return text if record.get("host") == guest.here.name and agreed and told else None


def start_host(lab: Laboratory, stage: Stage, name: str, configuration: str) -> Host:
    """A host with libvirtd, the hook and the daemon."""
    with stage.doing(f"starting host {name}: libvirtd, hook, sidecard"):
        host = lab.host(name)
        host.install_hook()
        host.start_sidecard(configuration)
        return host


def walk(lab: Laboratory, stage: Stage) -> None:
    """The four stops, and a fifth that is refused."""
    with stage.doing("building the guest's image, once"):
        guest = lab.guest(GuestSpec(name="vm1", channels=CHANNELS, agent=AGENT))
    alpha = start_host(lab, stage, "alpha", TOOLS)
    beta = start_host(lab, stage, "beta", CAPS)
    print("Host alpha speaks oVirt API versions up to 4 and QEMU guest agents up to 10.0, beta is capped to 2 and 5.2.")
    print("The guest has the project's own agent, which speaks versions up to 4, and a real qemu-ga.\n")

    def step(what: str, action: Callable[[], None]) -> None:
        with stage.doing(what):
            action()
        stage.show(what, guest)

    guest.define(alpha)
    step("vm1 boots on alpha", guest.start)
    with stage.doing("asking what vm1 would lose on beta"):
        forecast = look_ahead(guest, beta)
    print("   Before it moves: what would vm1 lose on beta?")
    print(
        f"   beta# sidecarctl host --json > beta.json\n   alpha# sidecarctl preflight vm1 --offer {OFFER}\n{forecast}"
    )
    step("vm1 migrates to beta", lambda: guest.migrate(beta))
    step("vm1 migrates back to alpha", lambda: guest.migrate(alpha))
    with stage.doing("saving vm1"):
        alpha.virsh("managedsave", guest.name)
    step("vm1 is saved and restored on alpha", guest.start)
    with stage.doing("trying to migrate vm1 to beta"):
        refusal = refuse_migration(guest, beta)
    print("5. vm1 is given a policy that beta, capped to 2, cannot honour; it runs on at alpha:")
    print(f"   # virsh metadata vm1 {POLICY_URI} --key policy --live --config --set '{POLICY}'")
    print(f"   # virsh migrate --live … {beta.migration_uri}\n   {refusal}\n")


def look_ahead(guest: Guest, destination: Host) -> str:
    """What sidecarctl says of a migration before it is made."""
    sidecarctl = str(PROGRAMS / "sidecarctl")
    offer = destination.run([sidecarctl, "host", "--json"]).stdout
    done = guest.here.run([sidecarctl, "preflight", guest.name, "--offer", "-"], check=False, stdin_text=offer)
    if done.returncode != 1:
        raise RuntimeError(f"preflight ended with {done.returncode}: {done.stderr}")
    return "".join(f"   {line}".rstrip() + "\n" for line in (done.stdout + done.stderr).splitlines())


def refuse_migration(guest: Guest, destination: Host) -> str:
    """What virsh says of a migration that the guest's policy forbids."""
    metadata = ("metadata", guest.name, POLICY_URI, "--key", "policy", "--live", "--config", "--set", POLICY)
    guest.here.virsh(*metadata)
    virsh = ["virsh", "--quiet", "--connect", "qemu:///system", *guest.migrate_command(destination)]
    done = guest.here.run(virsh, check=False)
    if done.returncode == 0 or not guest.is_running():
        raise RuntimeError("the migration was not refused")
    return done.stderr.strip()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """However the demo is ended, everything is put away."""
    raise KeyboardInterrupt


def main() -> int:
    """Exit code: 0 when every stop agreed and nothing was left behind."""
    reason = reason_against()
    if reason is not None:
        print(f"demo: the laboratory cannot run here: {reason}", file=sys.stderr)
        return 1
    for number in ENDINGS:  # SIGINT, too: a shell starts its background commands with it ignored
        signal.signal(number, interrupt)
    stage, started = Stage(), monotonic()
    lab = Laboratory()
    status = 1
    try:
        walk(lab, stage)
        status = 0
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        status = 130
    except (RuntimeError, TimeoutError, ProblemError) as error:
        print(f"demo: {error}", file=sys.stderr)
    finally:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        with stage.doing("putting everything away"):
            lab.close()
            left = lab.leftovers()
    if left:
        print("demo: left behind: " + "; ".join(left), file=sys.stderr)
        return 1
    if status == 0:
        print(f"Done in {monotonic() - started:.0f} s; hosts, guest and network are gone again.")
    return status


if __name__ == "__main__":
    sys.exit(main())
