"""Our systemd units: what they take away from our programs, and that the page on security tells what they leave."""

import re
from pathlib import Path

import pytest

from tests.security_page import read_code_blocks, read_page, read_table
from tests.systemd_unit import DAEMON_UNIT, GUEST_UNIT, allowed_calls, judge_exposure, read_directives

# systemd's own scale, from 0 (nothing is left to be taken) to 10; what Debian 12's systemd says.
DAEMON_LIMIT = 2.5
WITHOUT_BUS_LIMIT = 2.1
GUEST_LIMIT = 9.6

# What a service that the unit gives to somebody else's programs must leave to them.
LIMITING = re.compile(
    r"(Private|Protect|Restrict|Capability|System(Call)|NoNew|Lock|Memory(Deny)|IPAddress|Device|UMask)"
)


def test_the_daemon_has_no_more_than_the_page_explains() -> None:
    exposure, left = judge_exposure(DAEMON_UNIT)
    explained = {row[0].strip("`") for row in read_table("What is left to it")}
    assert exposure <= DAEMON_LIMIT
    assert sorted(left) == sorted(explained)


def test_a_host_without_a_bus_can_take_the_network_away(tmp_path: Path) -> None:
    (drop_in,) = [block for block in read_code_blocks() if "IPAddressDeny" in block]
    unit = tmp_path / DAEMON_UNIT.name
    unit.write_text(f"{DAEMON_UNIT.read_text()}\n{drop_in}")
    exposure, left = judge_exposure(unit)
    assert exposure <= WITHOUT_BUS_LIMIT
    assert not [name for name in left if "INET" in name or "IPAddress" in name]


def test_the_guests_agent_is_not_locked_in_and_the_page_says_so() -> None:
    """It runs what an administrator of the guest has configured; half a lock would break that and keep nobody out."""
    exposure, _ = judge_exposure(GUEST_UNIT)
    assert exposure <= GUEST_LIMIT
    assert not [name for name in read_directives(GUEST_UNIT) if LIMITING.match(name)]


def test_the_page_tells_the_levels() -> None:
    for told in (
        f"gives it {DAEMON_LIMIT} of 10",
        f"{WITHOUT_BUS_LIMIT} on a host without a bus",
        f"{GUEST_LIMIT} of 10",
    ):
        assert told in read_page()


def test_what_the_mighty_do_is_filtered() -> None:
    calls = allowed_calls(read_directives(DAEMON_UNIT)["SystemCallFilter"])
    assert calls >= {"execve", "openat", "connect", "accept4", "inotify_add_watch", "fchown", "prlimit64", "vfork"}
    assert not calls & {"mount", "ptrace", "bpf", "init_module", "reboot", "setuid", "kexec_load", "open_by_handle_at"}


@pytest.mark.parametrize("unit", [DAEMON_UNIT, GUEST_UNIT], ids=lambda unit: unit.name)
def test_a_wrong_configuration_is_not_tried_again_and_again(unit: Path) -> None:
    assert read_directives(unit)["RestartPreventExitStatus"] == ["2"]
