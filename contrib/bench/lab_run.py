"""A lab for one benchmark: ended afterwards, whatever happens, with the proof that nothing of it is left."""

import contextlib
from collections.abc import Iterator

from tests.lab.laboratory import Laboratory


@contextlib.contextmanager
def open_laboratory() -> Iterator[Laboratory]:
    """A lab that ends with the block.

    Raises:
        SystemExit: The lab left something behind on the machine.
    """
    lab = Laboratory()
    try:
        yield lab
    finally:
        lab.close()
    left = lab.leftovers()
    if left:
        raise SystemExit("the lab left behind:\n" + "\n".join(left))
