"""Guests whose kernel finds its memory corrupted: told from all that can be our fault, counted, and begun anew.

QEMU without KVM may lose a write of its guest's while it migrates: the page is taken for clean between the moment in
which it was marked and that of the write. What is written most is lost most: the timer's queue, the allocator's lists.
Nothing on a host can do that through a channel. But a guest that dies of it often is no guest to soak with.

Source: QEMU's commit 9458a9a1df1a, "memory: fix race between TCG and accesses to dirty bitmap", which narrowed it.
"""

import re
from collections.abc import Mapping

from tests.lab.guest import Guest

_CORRUPTED = re.compile(r"\] (Kernel panic|general protection fault|BUG: |Oops: |Bad page|list_\w+ corruption)")

# Seen once in some seventy migrations, while the machine had ten times the work that it could do.
_STEPS_A_PANIC = 60


class Panics:
    """What the guests' consoles told of it so far.

    Attributes:
        number: how many guests began anew.
    """

    def __init__(self, guests: Mapping[str, Guest]) -> None:
        self._guests = guests
        self._known = self._count()
        self.number = 0

    def take(self, steps: int) -> list[str]:
        """The guests that have to begin anew now; none, when there were too many in so many steps already."""
        known, self._known = self._known, self._count()
        fresh = [name for name in self._guests if self._known[name] > known[name]]
        self.number += len(fresh)
        return fresh if self.number <= 1 + steps // _STEPS_A_PANIC else []

    def _count(self) -> dict[str, int]:
        return {name: len(_CORRUPTED.findall(_read_console(guest))) for name, guest in self._guests.items()}


def _read_console(guest: Guest) -> str:
    return guest.serial_log.read_text(errors="replace")
