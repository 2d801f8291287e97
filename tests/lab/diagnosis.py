"""What ``sidecarctl doctor`` says on a lab's host."""

import json
import subprocess
from typing import Any

from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.lab.sidecard import PROGRAMS
from tests.lab.waiting import wait_for

HIDE = """
for socket in /run/sidecar/api.sock /run/sidecar/api-ro.sock; do mount --bind /dev/null "$socket"; done
exec "$@"
"""
"""For one program the daemon's sockets are none: it is not reached, and the doctor looks for itself."""

Finding = dict[str, Any]


def diagnose(host: Host, domain: str | None = None, *, alone: bool = False) -> dict[str, Any]:
    """What the doctor says, or what it finds without the daemon that runs; its exit code must say the same."""
    hide = ["unshare", "--mount", "sh", "-ec", HIDE, "sh"] if alone else []
    words = ["--json", *([] if domain is None else [domain])]
    argv = [*hide, str(PROGRAMS / "sidecarctl"), "doctor", *words]

    def ask() -> subprocess.CompletedProcess[str] | None:
        done = host.run(argv, check=False)
        # A daemon that has just started does not know its domains yet, and says so.
        return None if "(libvirt-unavailable)" in done.stderr else done

    done = wait_for(ask, 15, "the daemon to know its domains")
    assert done.stdout, done.stderr
    view: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if view["healthy"] else 1)
    assert view["healthy"] == (not view["findings"])
    return view


def look_for(host: Host, code: str, guest: Guest | None = None) -> Finding | None:
    """The finding of this code, if it is there; no other is of the same."""
    name = None if guest is None else guest.name
    found = [finding for finding in diagnose(host, name)["findings"] if finding["code"] == code]
    assert len(found) <= 1
    assert all(finding["domain"] == name for finding in found)
    return found[0] if found else None


def find(host: Host, code: str, guest: Guest | None = None, channel: str | None = None) -> Finding:
    """The finding of this code; it must be of this channel."""
    found = look_for(host, code, guest)
    assert found is not None
    assert found["channel"] == channel
    return found


def codes(host: Host, guest: Guest | None = None) -> list[str]:
    """What is found beside that the daemon is down."""
    view = diagnose(host, None if guest is None else guest.name)
    return [finding["code"] for finding in view["findings"] if finding["code"] != "daemon-down"]


def codes_alone(host: Host, guest: Guest) -> list[str]:
    """What is found without the daemon that runs, beside that its two sockets are none."""
    found = [finding["code"] for finding in diagnose(host, guest.name, alone=True)["findings"]]
    assert found[:2] == ["socket-missing"] * 2
    return found[2:]


def wait_healthy(guest: Guest) -> None:
    """The daemon has looked again, and finds nothing any more."""
    wait_for(lambda: diagnose(guest.here, guest.name)["healthy"], 20, f"{guest.name} to be healthy")
