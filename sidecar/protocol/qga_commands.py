"""The command table of the QGA dialect: every command of the QEMU guest agent, since when, where, and what for.

History (the QEMU release, and what it brought):

* 0.15  the agent: synchronisation, files, freezing of file systems, shutdown.
* 1.1   suspend, network interfaces; ``guest-sync-delimited``, which a byte of 0xFF makes unmistakable.
* 1.2   ``guest-fstrim``.
* 1.5   the clock, CPUs on line.
* 2.2   file systems: what there is, and freezing some of them.
* 2.3   passwords, memory blocks.
* 2.5   programs.
* 2.10  who and what the guest is: host name, users, time zone, operating system.
* 5.2   disks, devices, keys of SSH.
* 7.1   statistics of disks and CPUs.
* 9.1   routes.
* 10.0  load.

The newest row is this host's offer. How to add one: docs/adding-a-message.md.

Source: the schema of QEMU's guest agent (``qga/qapi-schema.json``), whose "Since" is ``since`` here; docs/protocol.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sidecar.protocol.releases import Release


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    ``since`` is the release that brought the command; ``answers`` whether it answers when it succeeds (all of them do
    when they fail); ``platforms`` where today's builds have it, empty for everywhere; ``why`` what it is for.
    """

    name: str
    since: Release
    answers: bool
    platforms: str
    why: str


_SILENT = {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}

_LINUX, _WINDOWS, _BOTH, _ANY = "Linux", "Windows", "Linux, Windows", ""


def _table(*rows: tuple[str, str, str, str]) -> Mapping[str, Command]:
    return MappingProxyType(
        {
            name: Command(name, Release.parse(since), name not in _SILENT, platforms, why)
            for name, since, platforms, why in rows
        }
    )


QGA_COMMANDS = _table(
    ("guest-sync", "0.15", _ANY, "gives the caller's number back: what came before it is stale"),
    ("guest-ping", "0.15", _ANY, "whether the agent lives"),
    ("guest-info", "0.15", _ANY, "the agent's version, and its commands with whether each is enabled"),
    ("guest-shutdown", "0.15", _ANY, "power down, halt or reboot"),
    ("guest-file-open", "0.15", _ANY, "open a file"),
    ("guest-file-close", "0.15", _ANY, "close it"),
    ("guest-file-read", "0.15", _ANY, "read of it, in base64"),
    ("guest-file-write", "0.15", _ANY, "write to it"),
    ("guest-file-seek", "0.15", _ANY, "where to read or write next"),
    ("guest-file-flush", "0.15", _ANY, "write out what is buffered"),
    ("guest-fsfreeze-status", "0.15", _BOTH, "whether the file systems are frozen"),
    ("guest-fsfreeze-freeze", "0.15", _BOTH, "freeze all file systems, for a snapshot"),
    ("guest-fsfreeze-thaw", "0.15", _BOTH, "thaw them"),
    ("guest-sync-delimited", "1.1", _ANY, "guest-sync with a byte of 0xFF before its answer"),
    ("guest-suspend-disk", "1.1", _BOTH, "hibernate"),
    ("guest-suspend-ram", "1.1", _BOTH, "sleep"),
    ("guest-suspend-hybrid", "1.1", _LINUX, "sleep, with the memory saved as well"),
    ("guest-network-get-interfaces", "1.1", _ANY, "interfaces with their addresses"),
    ("guest-fstrim", "1.2", _BOTH, "give unused blocks back"),
    ("guest-get-time", "1.5", _ANY, "the guest's clock"),
    ("guest-set-time", "1.5", _ANY, "set it, after a long pause for instance"),
    ("guest-get-vcpus", "1.5", _BOTH, "CPUs, and which are on line"),
    ("guest-set-vcpus", "1.5", _LINUX, "bring CPUs on or off line"),
    ("guest-fsfreeze-freeze-list", "2.2", _BOTH, "freeze some file systems"),
    ("guest-get-fsinfo", "2.2", _BOTH, "file systems with the disks they are on"),
    ("guest-set-user-password", "2.3", _ANY, "set an account's password"),
    ("guest-get-memory-blocks", "2.3", _LINUX, "memory blocks, and which are on line"),
    ("guest-set-memory-blocks", "2.3", _LINUX, "bring memory blocks on or off line"),
    ("guest-get-memory-block-info", "2.3", _LINUX, "how large a memory block is"),
    ("guest-exec", "2.5", _ANY, "start a program"),
    ("guest-exec-status", "2.5", _ANY, "what became of it, and what it said"),
    ("guest-get-host-name", "2.10", _ANY, "the guest's host name"),
    ("guest-get-users", "2.10", _ANY, "who is logged in"),
    ("guest-get-timezone", "2.10", _ANY, "the guest's time zone"),
    ("guest-get-osinfo", "2.10", _ANY, "the guest's operating system"),
    ("guest-get-disks", "5.2", _BOTH, "the guest's disks"),
    ("guest-get-devices", "5.2", _WINDOWS, "devices with their drivers' versions"),
    ("guest-ssh-get-authorized-keys", "5.2", _ANY, "an account's keys of SSH"),
    ("guest-ssh-add-authorized-keys", "5.2", _ANY, "add some"),
    ("guest-ssh-remove-authorized-keys", "5.2", _ANY, "remove some"),
    ("guest-get-diskstats", "7.1", _LINUX, "statistics of the guest's disks"),
    ("guest-get-cpustats", "7.1", _LINUX, "statistics of the guest's CPUs"),
    ("guest-network-get-route", "9.1", _BOTH, "the guest's routes; on Windows since 11.0"),
    ("guest-get-load", "10.0", _ANY, "load averages"),
)
"""Every command by its name; two of 11.2 that only a development tree has shown are left out until a release does."""

QGA_MAXIMUM = max(command.since for command in QGA_COMMANDS.values())
"""The newest release in the table: what this code offers."""

QGA_FIRST = QGA_COMMANDS["guest-info"].since
"""The release of the first agent: who answers ``guest-info`` is no older."""

FROZEN_COMMANDS = frozenset(
    {
        "guest-ping",
        "guest-info",
        "guest-sync",
        "guest-sync-delimited",
        "guest-fsfreeze-status",
        "guest-fsfreeze-thaw",
    }
)
"""All that an agent leaves enabled while it has file systems frozen."""

NEGOTIATION_COMMANDS = frozenset({"guest-sync", "guest-sync-delimited"})
"""What only the negotiation sends: synchronising takes part in no caller's conversation."""
