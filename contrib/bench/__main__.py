"""One table of all benchmarks, each a ratio in one run with its limit beside it; exit 1 when one is over its limit."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from contrib.bench import arrival, hook

# A hook run takes a millisecond, an arrival a second.
BENCHES: dict[str, tuple[Callable[[int], dict[str, Any]], int]] = {
    "hook": (hook.measure, 400),
    "arrival": (arrival.measure, 20),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="contrib/bench/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--runs", type=int, help="runs of each arm instead of each benchmark's own number")
    parser.add_argument("--json", action="store_true", help="one document, raw figures included")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    results = []
    for name in options.names or BENCHES:
        measure, runs = BENCHES[name]
        results.append(measure(options.runs or runs))
        if not options.json:
            print(render(results[-1]), flush=True)
    if options.json:
        print(json.dumps(results))
    return 0 if all(result["passed"] for result in results) else 1


def render(result: dict[str, Any]) -> str:
    """One row, and the raw numbers below it."""
    (arm, ours), (bare, theirs) = result["p50"].items()
    unit, verdict = result["unit"], "ok" if result["passed"] else "OVER THE LIMIT"
    row = f"{result['name']:10} p50 of {result['runs']}: {arm} {ours:.1f} {unit}, {bare} {theirs:.1f} {unit}, "
    row += f"ratio {result['ratio']:.2f} (limit {result['limit']}) {verdict}"
    if "before_virsh_returned" in result:
        row += f"\n{'':10} record before virsh migrate returned: {result['before_virsh_returned']} of {result['runs']}"
    raw = "\n".join(f"{'':10} {name}: {' '.join(map(str, shorten(values)))}" for name, values in result["raw"].items())
    return f"{row}\n{raw}"


def shorten(values: list[float]) -> list[float | str]:
    """All of a few numbers; of many the smallest, the quartiles and the largest."""
    if len(values) <= 40:
        return [*values]
    ordered = sorted(values)
    quarters = [round(ordered[int(part * (len(ordered) - 1))]) for part in (0, 0.25, 0.5, 0.75, 1)]
    return ["min, quartiles, max:", *quarters]


if __name__ == "__main__":
    sys.exit(main())
