"""Tables and sheets as text; whatever is put into them is escaped here."""

from collections.abc import Collection, Iterable, Sequence

from sidecar.cli.terminal import Screen, clip, escape, measure

_GAP = "  "
_NOTHING = "-"

# Below this an ellipsis says as much.
_READABLE = 3


def render_table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], screen: Screen, painted: Collection[str] = ()
) -> str:
    """Rows under their titles, each row a line that fits the screen.

    Args:
        titles: One for each column.
        rows: Values; ``None`` and "" are shown as a dash.
        screen: Where it goes; the widest columns shrink first, and without a width nothing is cut.
        painted: Titles of the columns whose words have colours; being what matters, they shrink last.
    """
    cells = [tuple(titles), *(tuple(map(_render_cell, row)) for row in rows)]
    widths = [max(map(measure, column)) for column in zip(*cells, strict=True)]
    if screen.columns is not None:
        left = screen.columns - len(_GAP) * (len(widths) - 1)
        widths = _fit(widths, left, [title in painted for title in titles])
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for title, cell, width in zip(titles, row, widths, strict=True):
            text = _pad(clip(cell, width), width)
            parts.append(screen.paint(text, cell) if number and title in painted else text)
        lines.append(_GAP.join(parts).rstrip(" "))
    return "\n".join(lines)


def render_sheet(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values, one pair a line, the values below each other."""
    named = [(f"{escape(name)}:", _render_cell(value)) for name, value in pairs]
    width = max((measure(name) for name, _ in named), default=0)
    return "\n".join(f"{_pad(name, width)} {value}" for name, value in named)


def _render_cell(value: object) -> str:
    return _NOTHING if value is None or value == "" else escape(str(value))


def _pad(text: str, width: int) -> str:
    return text + " " * (width - measure(text))


def _fit(widths: list[int], left: int, are_kept: list[bool]) -> list[int]:
    """The widths cut down to what is left: the widest first, and those to keep when nothing else helps."""
    fitted = [min(width, left) for width in widths]
    for lowest, cuts_kept in ((_READABLE, False), (1, True)):
        open_ones = [number for number, is_kept in enumerate(are_kept) if cuts_kept or not is_kept]
        while sum(fitted) > left and open_ones:
            widest = max(open_ones, key=lambda number: fitted[number])
            if fitted[widest] <= lowest:
                break
            fitted[widest] -= 1
    return fitted
