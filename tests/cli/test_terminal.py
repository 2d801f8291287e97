"""Nothing that others chose acts on a terminal, and everything fits."""

import io
import sys

import pytest

from sidecar.cli.tables import render_sheet, render_table
from sidecar.cli.terminal import Screen, clip, escape, measure, progress

PIPE = Screen(None, has_colours=False)
HOSTILE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
HOSTILE += list("\u202a\u202e\u2066\u2069\u200e\u200f\u061c\u2028\u2029\ufeff\ud800\ue000\u00ad")


@pytest.mark.parametrize("character", HOSTILE)
def test_escape(character: str) -> None:
    escaped = escape(f"a{character}b")
    assert escaped.startswith("a\\")
    assert escaped.isascii()
    assert escaped.isprintable()


@pytest.mark.parametrize("text", ["", "vm1", "Ünï", "新しい", "a\\n", "😀"])
def test_escape_leaves_what_can_be_read(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("abc", 3), ("新", 2), ("e\u0301", 1), ("ﾊ", 1), ("\uff21", 2), ("ü", 1)]
)
def test_measure(text: str, columns: int) -> None:
    assert measure(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("新しい", 6, "新しい"),
        ("新しい", 5, "新し…"),
        ("新しい", 4, "新…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_clip(text: str, columns: int, expected: str) -> None:
    assert clip(text, columns) == expected
    assert measure(expected) <= columns


TITLES = ("NAME", "STATE", "WHY")
ROWS = [("vm" * 40, "agreed", None), ("新しい機械" * 20, "lost", "x" * 150), ("", "waiting", 3)]


@pytest.mark.parametrize("columns", [5, 7, 12, 40, 80, 200])
def test_a_table_fits_its_screen(columns: int) -> None:
    lines = render_table(TITLES, ROWS, Screen(columns, has_colours=False)).split("\n")
    assert len(lines) == 4
    assert all(measure(line) <= max(columns, 7) for line in lines)


def test_the_widest_columns_shrink_and_use_all_there_is() -> None:
    lines = render_table(TITLES, ROWS, Screen(80, has_colours=False)).split("\n")
    assert max(map(measure, lines)) == 80
    assert all(word in line for word, line in zip(("STATE", "agreed", "lost", "waiting"), lines, strict=True))


def test_a_pipe_gets_everything() -> None:
    text = render_table(TITLES, ROWS, PIPE, ("STATE",))
    assert "vm" * 40 in text
    assert "x" * 150 in text
    assert "\x1b" not in text
    assert text.split("\n")[3].split() == ["-", "waiting", "3"]


def test_a_table_without_rows_is_its_titles() -> None:
    assert render_table(TITLES, [], PIPE) == "NAME  STATE  WHY"


def test_columns_stand_below_each_other_whatever_is_in_them() -> None:
    text = render_table(("A", "B"), [("新", 1), ("e\u0301", 2), ("abc", 3)], PIPE)
    assert {measure(line[: line.index(word)]) for line, word in zip(text.split("\n"), "B123", strict=True)} == {5}


def test_words_have_their_colours_in_their_columns_alone() -> None:
    rows = [("agreed", "agreed"), ("lost", "lost"), ("x", "waiting"), ("y", "vacant")]
    text = render_table(("NAME", "STATE"), rows, Screen(80, has_colours=True), ("STATE",))
    assert text.split("\n") == [
        "NAME    STATE",
        "agreed  \x1b[32magreed \x1b[0m",
        "lost    \x1b[31mlost   \x1b[0m",
        "x       \x1b[33mwaiting\x1b[0m",
        "y       vacant",
    ]


def test_no_cell_can_break_the_table() -> None:
    hostile = "".join(HOSTILE)
    for text in (render_table(("A",), [(hostile,)], PIPE), render_sheet([("a", hostile)])):
        assert text.replace("\n", "", 1 if text.startswith("A") else 0).isprintable()


def test_a_sheet() -> None:
    assert render_sheet([("name", "vm1"), ("activity", None)]) == "name:     vm1\nactivity: -"
    assert render_sheet([]) == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_taken_away_again(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    with progress("waiting for \x1b[31m" + "x" * 50):
        shown = terminal.getvalue()
    assert shown == "waiting for \\x1b[3…"
    assert terminal.getvalue() == shown + "\r\x1b[K"


def test_progress_is_taken_away_when_it_ends_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), progress("waiting"):
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_progress_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    dumb, pipe = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress("waiting"):
        pass
    monkeypatch.setattr(sys, "stderr", dumb)
    monkeypatch.setenv("TERM", "dumb")
    with progress("waiting"):
        pass
    assert pipe.getvalue() == dumb.getvalue() == ""


@pytest.mark.parametrize(
    ("environment", "has_colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_for_a_terminal_that_wants_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], has_colours: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "33")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Screen.of_stdout() == Screen(33, has_colours)


def test_a_pipe_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", "33")
    assert Screen.of_stdout() == PIPE
