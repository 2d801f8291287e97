"""Twenty-six lines that a parser of the oVirt dialect may stumble over, and what ours makes of each.

More than half of such lines left the original host's parser as exceptions that nobody had thought of: the type of every
field is wrong somewhere here, keys are missing, values are nested deeper than a stack, numbers are beyond all numbers,
and some look like a version and are none. The rest of what was read with such a line was lost there.

Source: docs/protocol.md; docs/problems.md for the codes.
"""

from dataclasses import dataclass

from sidecar.protocol.bad_input import BadInputCode

# Deeper than any interpreter's stack, and 100 KB a line: lines that are read at all must stay below 1 MiB.
_DEPTH = 100_000
_DIGITS = 5000
_ARABIC_THREE = "\N{ARABIC-INDIC DIGIT THREE}"


@dataclass(frozen=True, slots=True)
class HostileLine:
    """One line, without its LF; ``code`` is our complaint, ``None`` where it can be used for what it is.

    ``offer`` is what a heartbeat that says it offers: ``None`` for none, and for every other message.
    """

    name: str
    line: bytes
    code: BadInputCode | None
    offer: int | None = None

    @property
    def is_heartbeat(self) -> bool:
        """Whether it counts as a sign of life, whatever version it claims."""
        return self.code is BadInputCode.BAD_VERSION or self.offer is not None


def _bad(name: str, line: str) -> HostileLine:
    return HostileLine(name, line.encode(), BadInputCode.BAD_MESSAGE)


def _version(name: str, version: str, code: BadInputCode = BadInputCode.BAD_VERSION) -> HostileLine:
    line = f'{{"__name__": "heartbeat", "free-ram": "1", "memory-stat": {{}}, "apiVersion": {version}}}'
    return HostileLine(name, line.encode(), code)


def _odd(name: str, line: str, offer: int | None = None) -> HostileLine:
    return HostileLine(name, line.encode(), None, offer)


TWENTY_SIX_LINES = (
    _bad("top-list", '["heartbeat", 3]'),
    _bad("top-text", '"heartbeat"'),
    _bad("top-number", "3"),
    _bad("top-null", "null"),
    _bad("no-name", '{"apiVersion": 3}'),
    _bad("name-null", '{"__name__": null, "apiVersion": 3}'),
    _bad("name-object", '{"__name__": {"heartbeat": 1}, "apiVersion": 3}'),
    _version("version-infinity", "Infinity", BadInputCode.BAD_MESSAGE),  # no JSON at all, nor is the next one
    _version("version-arabic-digit", _ARABIC_THREE, BadInputCode.BAD_MESSAGE),
    _version("version-arabic-text", f'"{_ARABIC_THREE}"'),
    _version("version-true", "true"),
    _version("version-float", "2.9"),
    _version("version-1e400", "1e400"),
    _version("version-huge", "1" + "0" * _DIGITS),
    _version("version-null", "null"),
    _version("version-list", "[3]"),
    _version("version-object", '{"apiVersion": 3}'),
    _bad("deep-list", "[" * _DEPTH),
    _bad("deep-field", '{"__name__": "heartbeat", "free-ram": ' + "[" * _DEPTH + "]" * _DEPTH + ', "apiVersion": 3}'),
    _odd("no-free-ram", '{"__name__": "heartbeat", "apiVersion": 3}', 3),
    _odd("memory-list", '{"__name__": "heartbeat", "free-ram": [], "memory-stat": [null], "apiVersion": 3}', 3),
    _odd("host-name-object", '{"__name__": "host-name", "name": {"name": ["a", 1e999]}}'),
    _odd("interfaces-number", '{"__name__": "network-interfaces", "interfaces": 7}'),
    _odd("disks-texts", '{"__name__": "disks-usage", "disks": ["sda", null], "mapping": true}'),
    _bad("applications-null", '{"__name__": "applications", "applications": null}'),
    _bad("completion-list", '{"__name__": "completion", "reply_id": ["a"], "done": "yes"}'),
)
