"""QGA versions: what a cap is, where an agent is placed, what two ends have in common.

Every rule about a *release* of the QGA dialect is in this module; what each release brought is the command table,
``qga_commands``.

Source: docs/protocol.md; docs/configuration.md for cap and aliases.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_commands import QGA_COMMANDS, QGA_FIRST, QGA_MAXIMUM
from sidecar.protocol.releases import Release, parse_version_text

# Builds of virtio-win number themselves 100 and above; QEMU itself is far from that.
FOREIGN_MAJOR = 100

QGA_ALIASES: Mapping[str, Release] = MappingProxyType(
    {
        "debian-10": Release(3, 1),
        "debian-11": Release(5, 2),
        "debian-12": Release(7, 2),
        "debian-13": Release(10, 0),
        "ubuntu-20.04": Release(4, 2),
        "ubuntu-22.04": Release(6, 2),
        "ubuntu-24.04": Release(8, 2),
        "sidecar-0.1": Release(10, 0),
    }
)
"""Release aliases for ``[upgrade_levels] qga``: the QEMU that a distribution's release ships."""


def common_release(guest: Release, host_maximum: Release) -> Release:
    """The release both ends understand: the lower of what each is."""
    return min(guest, host_maximum)


def read_release(version_text: str) -> Release | None:
    """The release that an agent's version text names; ``None`` when it is no number of QEMU's own."""
    numbers = parse_version_text(version_text)
    if not numbers or numbers[0] >= FOREIGN_MAJOR:
        return None
    release = Release(*numbers[:2])
    return release if release >= QGA_FIRST else None


def share_numbering(one: int, other: int) -> bool:
    """Whether these two major numbers are of the same numbering, QEMU's own or another's, and so can be compared."""
    return (one >= FOREIGN_MAJOR) == (other >= FOREIGN_MAJOR)


def place_by_commands(enabled: Collection[str]) -> Release:
    """The newest release that one of the enabled commands came with: the agent cannot be older."""
    return max((QGA_COMMANDS[name].since for name in enabled if name in QGA_COMMANDS), default=QGA_FIRST)


def parse_qga_cap(value: object) -> Release:
    """The host's maximum for the QGA dialect from ``[upgrade_levels] qga``.

    Args:
        value: ``MAJOR.MINOR`` as text (above ``QGA_MAXIMUM`` it acts as no cap, below the first agent's as 0), 0 or
            ``"0"``, a release alias, or ``"max"``.

    Raises:
        ConfigurationError: The value is none of these; the text lists what is.
    """
    if value == "max":
        return QGA_MAXIMUM
    if isinstance(value, str) and value in QGA_ALIASES:
        return QGA_ALIASES[value]
    text = "0" if type(value) is int and value == 0 else value
    try:
        release = Release.parse(text if isinstance(text, str) else "")
    except ValueError:
        choices = ", ".join(sorted(QGA_ALIASES))
        problem = f'expected a release such as "{QGA_MAXIMUM}", 0, "max", or one of {choices}'
        raise ConfigurationError(problem) from None
    return min(release, QGA_MAXIMUM) if release >= QGA_FIRST else Release(0, 0)
