"""Whether a daemon has grown: what it has at the end of each step, from when it is warm."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Until it has seen so many steps a daemon still loads what it needs, and fills its bounded tables.
WARM_STEPS = 20
# Beyond that it may grow by so much, whatever it lives through: an allocator keeps what it was given.
GROWTH_MIB = 8.0
# Connections of calls to libvirt come and go with what is asked; what is leaked with each arrival is more soon.
GROWTH_FDS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """What one daemon has at the end of a step, with so many guests."""

    guests: int
    rss_mib: float
    fds: int


def judge_growth(host: str, samples: Sequence[Sample]) -> Iterator[str]:
    """What one daemon has at the end more than it had when it was warm: memory, and descriptors for as many guests."""
    warm = samples[WARM_STEPS:]
    if not warm:
        return
    last, least = warm[-1], min(sample.rss_mib for sample in warm)
    if last.rss_mib > least + GROWTH_MIB:
        yield f"{host}'s daemon grew from {least:.1f} to {last.rss_mib:.1f} MiB in {len(warm)} steps"
    fewest = min(sample.fds for sample in warm if sample.guests == last.guests)
    if last.fds > fewest + GROWTH_FDS:
        yield f"{host}'s daemon had {fewest} descriptors with {last.guests} guests, and has {last.fds}"
