"""Guests whose memory QEMU corrupted while they migrated are counted, and begun anew.

A guest that dies of it often is no guest to soak with.
"""

from collections.abc import Mapping

from tests.lab.corruption import find_signs
from tests.lab.guest import Guest

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
        return {name: len(find_signs(_read_console(guest))) for name, guest in self._guests.items()}


def _read_console(guest: Guest) -> str:
    return guest.serial_log.read_text(errors="replace")
