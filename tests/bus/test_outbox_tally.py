"""What the outbox knows beside the events that wait in it."""

from typing import Any

import pytest

from sidecar.bus.outbox_tally import Tally


def test_nothing_was_given_up_at_first() -> None:
    assert Tally().gap is None


def test_a_gap_is_what_was_given_up_since_it_was_told() -> None:
    tally = Tally(dropped=10, told=7, gap_id="e-9", gap_time="now")
    gap = tally.gap
    assert gap is not None
    assert gap.dropped == 10
    assert (gap.document["dropped"], gap.document["total"], gap.document["id"]) == (3, 10, "e-9")
    assert Tally(dropped=10, told=10).gap is None


@pytest.mark.parametrize(
    ("newest", "id_", "time"),
    [({"id": "e-2", "time": "later"}, "e-2", "later"), ({"id": "e-2"}, "e-2", "now"), ({}, "e-1", "now")],
)
def test_of_the_newest_that_was_given_up_id_and_time_are_kept(newest: dict[str, Any], id_: str, time: str) -> None:
    assert Tally(dropped=1, gap_id="e-1", gap_time="now").add_dropped(2, newest) == Tally(
        dropped=3, gap_id=id_, gap_time=time
    )


@pytest.mark.parametrize(("event_id", "last_id"), [("e-2", "e-2"), (None, "e-1"), (7, "e-1")])
def test_the_newest_event_is_counted(event_id: object, last_id: str) -> None:
    assert Tally(last_number=4, last_id="e-1").add_event(event_id) == Tally(last_number=5, last_id=last_id)


def test_what_is_found_later_is_older() -> None:
    own = Tally(last_number=2, last_id="e-2", dropped=3, told=1, gap_id="e-1", gap_time="now")
    older = Tally(last_number=10, last_id="d-9", dropped=5, told=5, gap_id="d-5", gap_time="then")
    assert own.add_older(older) == Tally(12, "e-2", 8, 6, "e-1", "now")
    assert Tally().add_older(older) == older
