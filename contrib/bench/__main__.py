"""One table of all benchmarks, each figure beside its limit and a bare counterpart's; exit 1 when one is over it."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from contrib.bench import (
    api,
    arrival,
    bus_arrival,
    cli,
    evacuation,
    fairness,
    fairness_scripted,
    fleet,
    heartbeat,
    hook,
    idle,
    idle_scripted,
    memory,
    qga_arrival,
    start,
    subscribers,
)
from contrib.bench.table import render_table

# A hook run takes a millisecond, an arrival a second or two, a run of idle half a minute, an evacuation one.
BENCHES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "hook": (hook.measure, 400),
    "hook-migrate": (hook.measure_migrate, 400),
    "cli-help": (cli.measure_help, 40),
    "cli-host": (cli.measure_host, 40),
    "arrival": (arrival.measure, 20),
    "qga-arrival": (qga_arrival.measure, 20),
    "subscribers": (subscribers.measure, 20),
    "bus-down": (bus_arrival.measure_down, 20),
    "bus-stopped": (bus_arrival.measure_stopped, 20),
    "bus-flapping": (bus_arrival.measure_flapping, 20),
    "fleet": (fleet.measure, 5),
    "heartbeat": (heartbeat.measure, 20),
    "heartbeat-burst": (heartbeat.measure_burst, 20),
    "applications": (heartbeat.measure_applications, 20),
    "memory": (memory.measure, 3),
    "start": (start.measure, 3),
    "idle-scripted": (idle_scripted.measure, 1),
    "fairness-scripted": (fairness_scripted.measure, 15),
    "fairness": (fairness.measure, 5),
    "evacuation": (evacuation.measure, 2),
    "api": (api.measure, 10),
    "idle": (idle.measure, 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="contrib/bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--runs", type=int, help="runs of each arm instead of each benchmark's own number")
    parser.add_argument("--domains", type=int, default=idle.DOMAINS, help="of idle (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one document, raw figures included")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    results = []
    for name in options.names or BENCHES:
        measure, runs = BENCHES[name]
        if name == "idle":
            measure = partial(idle.measure, domains=options.domains)
        results.append(measure(options.runs or runs))
        if not options.json:
            print(render(results[-1]), flush=True)
    print(json.dumps(results) if options.json else f"\n{render_table(results)}")
    return 0 if all(result["passed"] for result in results) else 1


def render(result: dict[str, Any]) -> str:
    """One row, and the raw numbers below it."""
    if "checks" in result:
        return render_checks(result)
    (arm, ours), (bare, theirs) = result["p50"].items()
    unit, verdict = result["unit"], "ok" if result["passed"] else "OVER THE LIMIT"
    limit = "at least" if result.get("at_least") else "limit"
    statistic = result.get("statistic", "p50")
    row = f"{result['name']:11} {statistic} of {result['runs']}: {arm} {ours:.1f} {unit}, {bare} {theirs:.1f} {unit}, "
    ratio = "" if result["ratio"] is None else f"ratio {result['ratio']:.2f} "
    row += f"{ratio}({limit} {result['limit']}) {verdict}"
    if "before_virsh_returned" in result:
        row += f"\n{'':11} record before virsh migrate returned: {result['before_virsh_returned']} of {result['runs']}"
    row += "".join(f"\n{'':11} {note}" for note in result.get("notes", ()))
    raw = "\n".join(f"{'':11} {name}: {' '.join(map(str, shorten(values)))}" for name, values in result["raw"].items())
    return f"{row}\n{raw}"


def render_checks(result: dict[str, Any]) -> str:
    """A row for the whole, and one for each thing that was counted."""
    fewer = "" if result["domains"] == result["domains_wanted"] else f" ({result['domains_wanted']} do not fit)"
    verdict = "ok" if result["passed"] else "OVER THE LIMIT"
    row = f"{result['name']:11} {result['domains']} paused domains{fewer}, settled after {result['settled_s']} s, "
    rows = [f"{row}{result['runs']} x {result['seconds']:.0f} s: {verdict}"]
    for check in result["checks"]:
        bare = f", bare {' '.join(map(str, check['bare']))}" if check["bare"] else ""
        judgement = "ok" if check["passed"] else "NOT SO"
        line = f"{check['what']}: {check['value']}{bare} ({check['relation']} {check['limit']}) {judgement}"
        rows.append(f"{'':11} {line}")
    if not result["traced"]:
        rows.append(f"{'':11} system calls not counted: strace is not installed")
    return "\n".join(rows)


def shorten(values: list[float]) -> list[float | str]:
    """All of a few numbers; of many the smallest, the quartiles and the largest."""
    if len(values) <= 40:
        return [*values]
    ordered = sorted(values)
    quarters = [round(ordered[int(part * (len(ordered) - 1))]) for part in (0, 0.25, 0.5, 0.75, 1)]
    return ["min, quartiles, max:", *quarters]


if __name__ == "__main__":
    sys.exit(main())
