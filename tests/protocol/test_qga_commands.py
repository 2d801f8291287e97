import pytest

from sidecar.protocol.qga_commands import (
    FROZEN_COMMANDS,
    NEGOTIATION_COMMANDS,
    QGA_COMMANDS,
    QGA_FIRST,
    QGA_MAXIMUM,
    Command,
)
from sidecar.protocol.releases import Release

# Written out again, from QEMU's schema, so that a slip in the table shows.
SINCE = {
    "0.15": """guest-sync guest-ping guest-info guest-shutdown guest-file-open guest-file-close guest-file-read
        guest-file-write guest-file-seek guest-file-flush guest-fsfreeze-status guest-fsfreeze-freeze
        guest-fsfreeze-thaw""",
    "1.1": """guest-sync-delimited guest-suspend-disk guest-suspend-ram guest-suspend-hybrid
        guest-network-get-interfaces""",
    "1.2": "guest-fstrim",
    "1.5": "guest-get-time guest-set-time guest-get-vcpus guest-set-vcpus",
    "2.2": "guest-fsfreeze-freeze-list guest-get-fsinfo",
    "2.3": """guest-set-user-password guest-get-memory-blocks guest-set-memory-blocks
        guest-get-memory-block-info""",
    "2.5": "guest-exec guest-exec-status",
    "2.10": "guest-get-host-name guest-get-users guest-get-timezone guest-get-osinfo",
    "5.2": """guest-get-disks guest-get-devices guest-ssh-get-authorized-keys guest-ssh-add-authorized-keys
        guest-ssh-remove-authorized-keys""",
    "7.1": "guest-get-diskstats guest-get-cpustats",
    "9.1": "guest-network-get-route",
    "10.0": "guest-get-load",
}
EXPECTED = {name: since for since, names in SINCE.items() for name in names.split()}


def test_the_table_is_qemus() -> None:
    assert len(EXPECTED) == 44
    assert {name: str(command.since) for name, command in QGA_COMMANDS.items()} == EXPECTED


@pytest.mark.parametrize("command", QGA_COMMANDS.values(), ids=QGA_COMMANDS)
def test_every_row_is_whole(command: Command) -> None:
    assert QGA_COMMANDS[command.name] is command
    assert command.since
    assert command.platforms in ("", "Linux", "Windows", "Linux, Windows")
    assert command.why


def test_rows_stand_in_the_order_of_their_releases() -> None:
    releases = [command.since for command in QGA_COMMANDS.values()]
    assert releases == sorted(releases)


def test_the_two_of_a_development_tree_are_not_in_it() -> None:
    assert not {"guest-get-driver-packages", "guest-get-driver-services"} & set(QGA_COMMANDS)


def test_exactly_four_say_nothing_when_they_succeed() -> None:
    assert {name for name, command in QGA_COMMANDS.items() if not command.answers} == {
        "guest-shutdown",
        "guest-suspend-disk",
        "guest-suspend-ram",
        "guest-suspend-hybrid",
    }


def test_exactly_six_are_left_to_a_frozen_guest() -> None:
    assert sorted(FROZEN_COMMANDS) == [
        "guest-fsfreeze-status",
        "guest-fsfreeze-thaw",
        "guest-info",
        "guest-ping",
        "guest-sync",
        "guest-sync-delimited",
    ]


def test_only_synchronising_is_kept_from_callers() -> None:
    assert {"guest-sync", "guest-sync-delimited"} == NEGOTIATION_COMMANDS


def test_what_this_host_offers() -> None:
    assert Release(10, 0) == QGA_MAXIMUM
    assert Release(0, 15) == QGA_FIRST


def test_nobody_can_change_the_table() -> None:
    with pytest.raises(TypeError):
        QGA_COMMANDS["evil"] = QGA_COMMANDS["guest-ping"]  # type: ignore[index]
    with pytest.raises(TypeError):
        del QGA_COMMANDS["guest-ping"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        QGA_COMMANDS["guest-exec"].since = Release(0, 15)  # type: ignore[misc]
