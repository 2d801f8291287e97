"""The one table at the end of a run: for each benchmark ours, bare, their ratio, its limit, and how it grows."""

from collections.abc import Iterable, Sequence
from typing import Any

_TITLES = ("name", "", "ours", "bare", "ratio", "limit", "verdict", "growth: 1, 10, 100, 1000")
_GAP = "  "


def render_table(results: Iterable[dict[str, Any]]) -> str:
    """A line each; what grows is shown as it was counted for 1, 10, 100 and 1,000 guests."""
    rows = [_TITLES, *(_render_checks(result) if "checks" in result else _render_row(result) for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_GAP.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _render_row(result: dict[str, Any]) -> Sequence[str]:
    ours, bare = result["p50"].values()
    unit = f"{result.get('statistic', 'p50')}, {result['unit']}"
    ratio = "" if result["ratio"] is None else f"{result['ratio']:.2f}"
    limit = f"{'>=' if result.get('at_least') else '<='} {result['limit']:g}"
    return result["name"], unit, f"{ours:.1f}", f"{bare:.1f}", ratio, limit, _judge(result), _render_growth(result)


def _render_checks(result: dict[str, Any]) -> Sequence[str]:
    kept = sum(check["passed"] for check in result["checks"])
    what = f"checks kept of {len(result['checks'])}"
    return result["name"], what, str(kept), "", "", f">= {len(result['checks'])}", _judge(result), ""


def _render_growth(result: dict[str, Any]) -> str:
    if "growth" not in result:
        return ""
    values = ", ".join(f"{value:g}" for value in result["growth"].values())
    return f"{values} ({result['growth_of']})"


def _judge(result: dict[str, Any]) -> str:
    return "ok" if result["passed"] else "OVER"
