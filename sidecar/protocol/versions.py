"""oVirt API versions: what an offer is, what a cap is, what two ends have in common.

Every rule about a version *number* of the oVirt dialect is in this module; what each number *means* is the
message table, ``ovirt_messages``.

Source: docs/protocol.md; docs/configuration.md for cap and aliases, whose numbers are what VDSM's releases spoke.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeGuard

from sidecar.errors import ConfigurationError

OVIRT_MAXIMUM = 4
"""The highest version that this code speaks."""

PROMPT_SINCE = 4
"""Agents whose maximum is this or above answer a ``refresh`` that carries ``apiVersion`` with a heartbeat at once."""

# The wire carries a JSON integer; a signed 32-bit range is what every peer, XML-RPC included, can hold.
OFFER_LIMIT = 2**31 - 1

OVIRT_ALIASES: Mapping[str, int] = MappingProxyType(
    {
        "ovirt-3.4": 0,  # VDSM 4.14: before versioning
        "ovirt-3.5": 1,  # VDSM 4.16
        "ovirt-3.6": 2,  # VDSM 4.17.1 and later
        "ovirt-4.0": 3,  # VDSM 4.18
        "ovirt-4.1": 3,
        "ovirt-4.2": 3,
        "ovirt-4.3": 3,
        "ovirt-4.4": 3,
        "ovirt-4.5": 3,
        "sidecar-0.1": 4,
    }
)
"""Release aliases for ``[upgrade_levels] ovirt``: the version that a release spoke."""


def is_offer(value: object) -> TypeGuard[int]:
    """Whether a decoded JSON value is a version that an end may offer: an integer, 0 to 2**31-1.

    Booleans, floats, strings and everything else are no offer, whatever they could be turned into.
    """
    return type(value) is int and 0 <= value <= OFFER_LIMIT


def common_version(guest: int, host_maximum: int) -> int:
    """The version both ends understand: the lower of what each offers."""
    return min(guest, host_maximum)


def parse_ovirt_cap(value: object) -> int:
    """The host's maximum for the oVirt dialect from ``[upgrade_levels] ovirt``.

    Args:
        value: An integer or its text (0 to ``OVIRT_MAXIMUM``; above it acts as no cap), a release alias, or ``"max"``.

    Raises:
        ConfigurationError: The value is none of these; the text lists what is.
    """
    if value == "max":
        return OVIRT_MAXIMUM
    if isinstance(value, str) and value in OVIRT_ALIASES:
        return OVIRT_ALIASES[value]
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(OFFER_LIMIT)):
        value = int(value)
    if is_offer(value):
        return min(value, OVIRT_MAXIMUM)
    choices = ", ".join(sorted(OVIRT_ALIASES))
    raise ConfigurationError(f'expected a version from 0 to {OVIRT_MAXIMUM}, "max", or one of {choices}')
