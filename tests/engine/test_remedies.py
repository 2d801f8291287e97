"""The table of faults: every code is judged, and every advice can be typed as it stands."""

import re
import shlex
import subprocess

import pytest

from sidecar.engine.remedies import NO_FAULTS, REMEDIES, FindingCode, Place, find_absent, find_fault
from sidecar.engine.settings import Way
from sidecar.protocol.states import Reason

ODD = "a b;$(id)'\"&`"
PLACE = Place("vm1", "ovirt-guest-agent.0", "/run/channels/1", Way.OVIRT)


def test_every_code_is_a_fault_or_none() -> None:
    assert set(REMEDIES) | NO_FAULTS == set(Reason)
    assert not set(REMEDIES) & NO_FAULTS


@pytest.mark.parametrize("reason", [None, *sorted(NO_FAULTS)])
def test_no_fault_no_finding(reason: Reason | None) -> None:
    assert find_fault(reason, PLACE) is None


@pytest.mark.parametrize("reason", REMEDIES)
@pytest.mark.parametrize("way", Way)
def test_an_advice_names_its_place_and_commands_that_a_shell_can_read(reason: Reason, way: Way) -> None:
    finding = find_fault(reason, Place("vm1", "org.x.0", "/run/a b", way))
    assert finding is not None
    assert (finding.code, finding.domain, finding.channel) == (reason.value, "vm1", "org.x.0")
    commands = re.findall(r"`([^`]+)`", finding.advice)
    assert commands
    for command in commands:
        subprocess.run(["sh", "-n", "-c", command], check=True)
    assert not set("{}") & set(re.sub(r"`[^`]+`", "", finding.advice) + finding.problem)


@pytest.mark.parametrize(
    ("way", "service"), [(Way.OVIRT, "ovirt-guest-agent"), (Way.LIBVIRT, "qemu-guest-agent"), (Way.DIRECT, "qemu-gu")]
)
def test_the_service_is_that_of_the_dialect(way: Way, service: str) -> None:
    finding = find_fault(Reason.PORT_CLOSED, Place("vm1", "x", "/x", way))
    assert finding is not None
    assert f"systemctl start {service}" in finding.advice


@pytest.mark.parametrize(
    ("way", "command"),
    [
        (Way.LIBVIRT, ["virsh", "domfsthaw", ODD]),
        (Way.DIRECT, ["sidecarctl", "send", ODD, "guest-fsfreeze-thaw", "--channel", "org.x.0"]),
    ],
)
def test_a_thaw_goes_through_the_agent_that_froze(way: Way, command: list[str]) -> None:
    finding = find_fault(Reason.GUEST_FROZEN, Place(ODD, "org.x.0", "/x", way))
    assert finding is not None
    assert shlex.split(finding.advice[finding.advice.index("`") + 1 : -1]) == command


@pytest.mark.parametrize(
    ("wanted", "channel"),
    [(("ovirt.0", "org.qemu.guest_agent.0"), "org.qemu.guest_agent.0"), (("ovirt.0", "x"), "ovirt.0")],
)
def test_a_channel_to_plug_in(wanted: tuple[str, ...], channel: str) -> None:
    finding = find_absent(ODD, wanted)
    assert (finding.code, finding.domain, finding.channel) == (FindingCode.CHANNEL_ABSENT, ODD, channel)
    assert all(name in finding.problem for name in wanted)
    _, _, rest = finding.advice.partition("`")
    words = shlex.split(rest[: rest.index(" --live`") + len(" --live")])
    assert words[2:] == ["|", "virsh", "attach-device", ODD, "/dev/stdin", "--live"]
    assert words[1] == (
        f'<channel type="unix"><source mode="bind" /><target type="virtio" name="{channel}" /></channel>'
    )
