"""Guests whose kernel finds its memory corrupted, which is told from all that can be our fault by their consoles.

QEMU without KVM may lose a write of its guest's while it migrates: the page is taken for clean between the moment in
which it was marked and that of the write. What is written most is lost most: the timer's queue, the allocator's lists.
Nothing on a host can do that through a channel.

Source: QEMU's commit 9458a9a1df1a, "memory: fix race between TCG and accesses to dirty bitmap", which narrowed it.
"""

import re

_SIGNS = re.compile(r"\] ((?:Kernel panic|general protection fault|BUG: |Oops: |Bad page|list_\w+ corruption).*)")


def find_signs(console: str) -> list[str]:
    """What the kernel said of it, in order."""
    return _SIGNS.findall(console)
