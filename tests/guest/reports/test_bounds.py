import json

import pytest

from sidecar.guest.reports.bounds import LIST_LIMIT_BYTES, TEXT_LIMIT_CHARACTERS, bound_items, report_text
from sidecar.protocol.framing import LINE_LIMIT_BYTES


@pytest.mark.parametrize(
    ("text", "clean"),
    [("plain ä 🦊", "plain ä 🦊"), ("a\0b\x1bc", "a\ufffdb\ufffdc"), ("\udcff\ud800", "\ufffd\ufffd")],
)
def test_text_is_cleaned(text: str, clean: str) -> None:
    assert report_text(text) == clean


def test_text_is_cut() -> None:
    assert report_text("x" * (TEXT_LIMIT_CHARACTERS + 1)) == "x" * TEXT_LIMIT_CHARACTERS
    assert report_text("abc", 2) == "ab"


def test_list_is_cut_at_its_number_of_items() -> None:
    assert bound_items(range(5), 3) == [0, 1, 2]


def test_only_items_that_do_not_fit_are_left_out() -> None:
    huge = "x" * LIST_LIMIT_BYTES
    assert bound_items(["a", huge, "b"], 10) == ["a", "b"]


@pytest.mark.parametrize("item", ["a", "🦊" * 1000, {"name": "\ufffd" * 100}, [1]])
def test_two_full_lists_stay_below_a_line(item: object) -> None:
    enough = LIST_LIMIT_BYTES // len(json.dumps(item)) + 10
    size = len(json.dumps(bound_items([item] * enough, enough)))
    assert LIST_LIMIT_BYTES - len(json.dumps(item)) - 4 <= size <= LIST_LIMIT_BYTES + 2
    assert 2 * size < LINE_LIMIT_BYTES * 3 // 4 + 8


def test_an_endless_source_is_left_after_the_limit() -> None:
    def count() -> object:
        taken.append(1)
        return "x" * LIST_LIMIT_BYTES

    taken: list[int] = []
    assert bound_items(iter(count, None), 7) == []
    assert len(taken) == 7
