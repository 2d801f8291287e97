"""What people read of the fleet, at the widths that terminals have."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sidecar.api.views import FleetForecastView, FleetView, read_view
from sidecar.cli import fleet_sheets
from sidecar.cli.terminal import Screen, measure
from tests.client.samples import CAP, EVACUATION, FLEET, FORECAST, HERE, OLDEST, SILENT
from tests.conftest import Golden

PIPE = Screen(None, has_colours=False)
NOW = datetime(2026, 11, 21, 7, 31, 38, tzinfo=UTC)


def render_all(screen: Screen) -> dict[str, str]:
    return {
        "fleet": fleet_sheets.render_fleet(read_view(FleetView, FLEET), screen, NOW),
        "fleet preflight": fleet_sheets.render_forecast(read_view(FleetForecastView, EVACUATION), screen),
    }


@pytest.mark.parametrize("columns", [40, 80, 200, None])
def test_the_tables(golden: Golden, columns: int | None) -> None:
    screen = Screen(columns, has_colours=columns == 80)
    texts = render_all(screen)
    golden(f"fleet-{columns or 'pipe'}.txt", "".join(f"== {name}\n{text}\n" for name, text in texts.items()))


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_table_fits(columns: int) -> None:
    for text in render_all(Screen(columns, has_colours=False)).values():
        assert max(map(measure, text.split("\n"))) <= columns


@pytest.mark.parametrize(
    ("last_seen", "words"),
    [
        ("2026-11-21T07:31:08.000Z", "silent 30 s"),
        ("2026-11-21T07:29:00.000Z", "silent 3 min"),
        ("2026-11-17T07:31:38.000Z", "silent 4 d"),
        ("2026-11-21T09:31:38.000Z", "silent 0 s"),  # its clock is ahead
        ("2026-11-21T07:29:00.000", "no"),
        ("yesterday", "no"),
        (None, "no"),
    ],
)
def test_how_long_somebody_is_silent(last_seen: str | None, words: str) -> None:
    fleet = read_view(FleetView, FLEET | {"hosts": [SILENT | {"last_seen": last_seen}]})
    row = fleet_sheets.render_fleet(fleet, PIPE, NOW).split("\n")[1]
    assert row.split("  ")[1].strip() == words


def test_a_host_of_another_dialect_or_none_is_shown() -> None:
    bare = SILENT | {"dialects": {"new": {"maximum": 1, "cap": "max"}}, "oldest": {}, "daemon": None, "bridge": None}
    fleet = read_view(FleetView, {"complete": False, "hosts": [bare], "caps": {}})
    assert fleet_sheets.render_fleet(fleet, PIPE, NOW).split("\n")[1].split() == [
        "gamma",
        "silent",
        "3",
        "h",
        *"-------",
    ]


def test_no_text_of_others_acts_on_a_terminal() -> None:
    evil = "\x1b[2J\u202e\x9b1m\r\nsidecarctl: all is well"
    dialects = {"ovirt": {"maximum": evil, "cap": evil}}
    host = HERE | {
        "hostname": evil,
        "daemon": evil,
        "bridge": evil,
        "dialects": dialects,
        "oldest": {"qga": OLDEST | {"domain": evil}},
    }
    fleet = {
        "complete": True,
        "hosts": [host],
        "caps": {evil: CAP | dict.fromkeys(("lowest", "held_by", "raise_at"), evil)},
    }
    channel = FORECAST["channels"][0] | {"name": evil, "lost": [{"message": evil}]}
    losing = [{"hosts": [evil], "refusal": evil, "channels": [channel]}]
    guest = {"name": evil, "uuid": evil, "keeps": [evil], "losing": losing}
    forecasts: list[dict[str, Any]] = [{"host": evil, "guests": [guest], "unanswered": [evil]}, {"host": evil}]
    texts = [fleet_sheets.render_fleet(read_view(FleetView, fleet), PIPE, NOW)]
    texts += [fleet_sheets.render_forecast(read_view(FleetForecastView, document), PIPE) for document in forecasts]
    for text in texts:
        assert text.replace("\n", "").isprintable()
        assert not any(line.startswith("sidecarctl:") for line in text.split("\n"))
