"""Which messages of the oVirt dialect tell something of the guest that is kept, and how much of it.

Events (a session began) and answers are no facts. ``guest-tools`` is none either: what it tells goes on record.

Source: docs/protocol.md; for what each carries, ``sidecar/guest/reports``.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sidecar.protocol.fact_content import FACT_LIMIT_BYTES, FactContent, bound_content, read_content

# 7000 packages with usual names; twice as many are rare.
APPLICATIONS_LIMIT_BYTES = 256 * 1024

FACTS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "heartbeat",  # how much memory is free, every 5 s
                "memory-stats",
                "host-name",
                "fqdn",
                "os-version",
                "os-info",
                "timezone",
                "number-of-cpus",
                "active-user",
                "network-interfaces",
                "disks-usage",
                "containers",
            ),
            FACT_LIMIT_BYTES,
        ),
        "applications": APPLICATIONS_LIMIT_BYTES,
    }
)
"""The messages that carry facts, and how many bytes of each one's line are kept."""

# Each is a list, which an honest guest may have too long; the first entries are better than none.
_LISTS = frozenset({"applications", "network-interfaces", "disks-usage", "containers"})


def bound_fact(name: str, line: bytes) -> FactContent | None:
    """What is kept of the line of this message, one of ``FACTS``; ``None``: it is too large."""
    return bound_content(line, FACTS[name], cuttable=name in _LISTS)


def read_fact(content: FactContent) -> object:
    """What the message carried, as JSON values, every text in it cleaned.

    Raises:
        ValueError: See ``read_content``.
    """
    value = read_content(content)
    return {key: item for key, item in value.items() if key != "__name__"} if isinstance(value, dict) else value
