"""What the soak measures on its way, and the page that it makes of it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import median

import psutil

from tests.lab.host import Host
from tests.soak.growth import WARM_STEPS, Sample, judge_growth
from tests.soak.judge import SeenRecord
from tests.soak.plan import MIGRATIONS, Kind, Step
from tests.soak.world import QGA, GuestState

_INFERRED = re.compile(r": agreed \d+ \(.*, inferred\)")


class Figures:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kinds: Counter[Kind] = Counter()
        self._durations: dict[str, list[float]] = defaultdict(list)
        self._agreed: dict[str, list[float]] = defaultdict(list)
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)

    def note_step(self, step: Step, took_s: float, settled_s: float) -> None:
        """How long a step took, and then until everything was as it should be."""
        self._kinds[step.kind] += 1
        self._durations["a migration"].extend([took_s] if step.kind in MIGRATIONS else [])
        self._durations["any step"].append(took_s)
        self._durations["from a step's end until all was judged right"].append(settled_s)

    def note_arrival(self, state: GuestState, record: SeenRecord) -> Iterator[str]:
        """From RESUMED to agreed, as the record tells, of a guest that came awake; also as text."""
        if state.ways not in ({"migration"}, {"restore"}):  # nobody who was there all the time has seen it come
            return
        arrived = datetime.fromisoformat(record.attributes["arrived"])
        for name, row in record.channels.items():
            if row["state"] == "agreed":
                kind = "qga" if name == QGA else "our own agent" if state.era == "own" else f"oVirt {state.era}"
                took = datetime.fromisoformat(row["since"]) - arrived
                self._agreed[kind].append(took.total_seconds())
                yield f"{kind} {took.total_seconds():.3f} s"

    def sample(self, host: Host, guests: int) -> None:
        """Look at a host's daemon."""
        process = host.sidecard.process
        pid = None if process is None else process.pid
        if pid is None:
            raise AssertionError(f"no daemon runs on {host.name}")
        daemon = psutil.Process(pid)
        sample = Sample(guests, daemon.memory_info().rss / 2**20, daemon.num_fds())
        self._samples[host.name, pid].append(sample)

    def complaints(self) -> list[str]:
        """Daemons that have grown."""
        return [text for (host, _), samples in self._samples.items() for text in judge_growth(host, samples)]

    def report(self, hosts: Iterable[Host], vigils: Iterable[object]) -> str:
        """Everything, as lines of text."""
        hosts = list(hosts)
        inferred = sum(len(_INFERRED.findall(host.log_text())) for host in hosts)
        migrations = sum(self._kinds[kind] for kind in MIGRATIONS)
        lines = [
            f"seed {self._seed}: {self._kinds.total()} steps, {migrations} migrations",
            *(f"  {self._kinds[kind]:4d}  {kind.phrase}" for kind in Kind if self._kinds[kind]),
            *(f"{what}: {_summarise(times)}" for what, times in self._durations.items()),
            *(f"RESUMED to agreed, {kind}: {_summarise(times)}" for kind, times in sorted(self._agreed.items())),
            f"records that said inferred for a while: {inferred}",
            *self._daemons(),
            *map(str, vigils),
            *_warnings(hosts),
        ]
        return "\n".join(lines)

    def _daemons(self) -> Iterator[str]:
        for (host, _), samples in self._samples.items():
            first, last = samples[min(WARM_STEPS, len(samples) - 1)], samples[-1]
            fds = f"{first.fds} -> {last.fds} descriptors ({first.guests} -> {last.guests} guests)"
            if len(samples) > WARM_STEPS:
                yield f"daemon of {host}, {len(samples)} steps: {first.rss_mib:.1f} -> {last.rss_mib:.1f} MiB, {fds}"


def _summarise(times: Sequence[float]) -> str:
    if not times:
        return "never"
    return f"median {median(times):.3f} s, worst {max(times):.3f} s, of {len(times)}"


def _warnings(hosts: Iterable[Host]) -> Iterator[str]:
    """What the daemons warned of, with everything that differs from case to case taken out."""
    lines = [line for host in hosts for line in host.log_text().splitlines() if " WARNING " in line]
    alike = Counter(re.sub(r"[\d.]+", "N", re.sub(r"'[^']*'", "X", line.partition(" WARNING ")[2])) for line in lines)
    return (f"warning, {count} times: {text}" for text, count in alike.most_common())
