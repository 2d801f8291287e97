"""Which of the offers that other hosts announce the daemon is told: what is new, and not more often than it can use."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What the roster holds, and no more, whoever makes up names.
HOSTS_LIMIT = 16_384
# What has not changed is told again, so that the daemon knows that the host lives.
REPEAT_S = 600.0
# One host's offers are told so far apart: what it said last counts.
APART_S = 1.0
# Names that are new: so many at once, as when a fleet answers a greeting, and then one after the other, for whoever
# makes up names. Those whose turn would come too late are new again when they are heard again.
NEW_BURST, NEW_APART_S = 2048, 1 / 128
NEW_WAIT_S = 60.0

Offer = Mapping[str, Any]


@dataclass(slots=True)
class _Heard:
    """What the daemon was told of a host: a digest, since there may be many; ``held`` is what it will be told next."""

    digest: bytes
    told_at: float
    held: Offer | None = None


class HeardOffers:
    """See the module; time (monotonic seconds) is told, and an offer is a JSON object."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str, _Heard] = OrderedDict()
        self._holding: dict[str, _Heard] = {}
        # When the last new name was, or will be, told, if each had waited for the one before.
        self._new_at = float("-inf")

    def __len__(self) -> int:
        return len(self._hosts)

    def hear(self, hostname: str, offer: Offer, now: float) -> bool:
        """Whether to tell it now; if not, it is known already, or held for ``take_due``."""
        known = self._hosts.get(hostname)
        digest = _digest(offer)
        if known is None:
            return self._hear_new(hostname, offer, now)
        self._hosts.move_to_end(hostname)
        if known.digest == digest and now - known.told_at < REPEAT_S:
            self._hold(hostname, known, None)
            return False
        if now - known.told_at < APART_S:
            self._hold(hostname, known, offer)
            return False
        self._hold(hostname, known, None)
        known.digest, known.told_at = digest, now
        return True

    def _hear_new(self, hostname: str, offer: Offer, now: float) -> bool:
        turn = max(self._new_at, now - NEW_BURST * NEW_APART_S) + NEW_APART_S
        if turn - now > NEW_WAIT_S:
            return False
        self._new_at = turn
        is_now = turn <= now
        # One that has to wait is held as if it had been told before, something else.
        heard = _Heard(_digest(offer), now) if is_now else _Heard(b"", turn - APART_S)
        self._hosts[hostname] = heard
        if not is_now:
            self._hold(hostname, heard, offer)
        if len(self._hosts) > HOSTS_LIMIT:
            self._holding.pop(self._hosts.popitem(last=False)[0], None)
        return is_now

    def forget(self, hostname: str) -> None:
        """Whatever it announces next is new."""
        self._hosts.pop(hostname, None)
        self._holding.pop(hostname, None)

    @property
    def deadline(self) -> float | None:
        """When ``take_due`` has something; ``None``: nothing is held."""
        return min((heard.told_at + APART_S for heard in self._holding.values()), default=None)

    def take_due(self, now: float) -> list[Offer]:
        """What was held, and is to be told now."""
        due = [(name, heard) for name, heard in self._holding.items() if heard.told_at + APART_S <= now]
        offers = []
        for name, heard in due:
            del self._holding[name]
            offer, heard.held = heard.held, None
            if offer is not None:
                heard.digest, heard.told_at = _digest(offer), now
                offers.append(offer)
        return offers

    def _hold(self, hostname: str, heard: _Heard, offer: Offer | None) -> None:
        heard.held = offer
        if offer is None:
            self._holding.pop(hostname, None)
        else:
            self._holding[hostname] = heard


def _digest(offer: Offer) -> bytes:
    return hashlib.blake2b(json.dumps(offer, sort_keys=True).encode(), digest_size=16).digest()
