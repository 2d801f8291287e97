"""What people read, at the widths that terminals have."""

import pytest

from sidecar.api.events import Event
from sidecar.api.views import (
    DoctorView,
    DomainView,
    FactView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
    read_view,
)
from sidecar.cli import sheets
from sidecar.cli.terminal import Screen, measure
from tests.client.samples import (
    ALLOWED,
    BARE,
    DIAGNOSIS,
    DOMAIN,
    EVENT,
    FINDING,
    FORBIDDEN,
    FORECAST,
    GUEST,
    HOST,
    OVIRT,
)
from tests.conftest import Golden

PIPE = Screen(None, has_colours=False)


def render_all(screen: Screen) -> dict[str, str]:
    domains = [read_view(DomainView, document) for document in (DOMAIN, BARE)]
    return {
        "list": sheets.render_domains(domains, screen),
        "show": sheets.render_domain(domains[0], screen),
        "guest": sheets.render_guest(read_view(GuestView, GUEST), screen),
        "messages": sheets.render_messages([read_view(MessageView, m) for m in (ALLOWED, FORBIDDEN)], screen),
        "host": sheets.render_host(read_view(HostView, HOST)),
        "preflight": sheets.render_preflight(read_view(PreflightView, FORECAST), screen),
        "doctor": sheets.render_doctor(read_view(DoctorView, DIAGNOSIS)),
    }


@pytest.mark.parametrize("columns", [40, 80, 200, None])
def test_the_tables(golden: Golden, columns: int | None) -> None:
    screen = Screen(columns, has_colours=columns == 80)
    texts = render_all(screen)
    golden(f"sheets-{columns or 'pipe'}.txt", "".join(f"== {name}\n{text}\n" for name, text in texts.items()))


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_table_fits(columns: int) -> None:
    texts = render_all(Screen(columns, has_colours=False))
    for name in ("list", "guest", "messages", "preflight"):
        assert max(map(measure, texts[name].split("\n"))) <= columns


def test_no_text_of_others_acts_on_a_terminal() -> None:
    evil = "\x1b[2J\u202e\x9b1m\r\nsidecarctl: all is well"
    domain = DOMAIN | {"name": evil, "host": evil, "channels": [OVIRT | dict.fromkeys(OVIRT, evil)]}
    domain |= {"tools": dict.fromkeys(DOMAIN["tools"], evil), "arrival": evil}
    fact = GUEST["facts"][0] | {"name": evil, "value": {evil: [evil]}}
    view = read_view(DomainView, domain)
    texts = [
        sheets.render_domains([view], PIPE),
        sheets.render_domain(view, PIPE),
        sheets.render_guest(read_view(GuestView, GUEST | {"facts": [fact]}), PIPE),
        sheets.render_messages(
            [read_view(MessageView, ALLOWED | {"message": evil, "allowed": False, "why": evil})], PIPE
        ),
        sheets.render_host(read_view(HostView, HOST | {"hostname": evil, "aliases": {evil: {evil: evil}}})),
        sheets.render_preflight(
            read_view(PreflightView, FORECAST | {"channels": [FORECAST["channels"][0] | {"name": evil}]}), PIPE
        ),
        sheets.render_doctor(
            read_view(DoctorView, DIAGNOSIS | {"checked": [evil], "findings": [dict.fromkeys(FINDING, evil)]})
        ),
        sheets.render_event(Event("1", evil, evil, evil, None, {evil: evil, "channel": {"name": evil}})),
    ]
    for text in texts:
        assert text.replace("\n", "").isprintable()
        assert not any(line.startswith("sidecarctl:") for line in text.split("\n"))


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0.0, "0 s"), (119.4, "119 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h"), (200_000.0, "2 d")],
)
def test_ages(seconds: float, age: str) -> None:
    fact = FactView("n", "c", "ovirt", "then", seconds, False, 1)
    assert f"  {age}  " in sheets.render_guest(GuestView("vm1", "u", (fact,)), PIPE)


def test_a_guest_that_has_told_nothing() -> None:
    assert sheets.render_guest(GuestView("vm1", "u", ()), PIPE) == "guest: has told nothing of itself yet"


TOOLS = {"source": "guest-tools", "version": "1.4.0-12", "upgradable": "false", "up_to_date": "true"}


@pytest.mark.parametrize(
    ("kind", "details", "words"),
    [
        ("channel", {"channel": EVENT["channel"]}, "ovirt-guest-agent.0,agreed,3"),
        ("tools", {"tools": TOOLS}, "guest-tools,1.4.0-12"),
        ("tools", {"tools": None}, ""),
        ("arrived", {"arrival": "migration", "arrivals": 2, "run": "9d"}, "arrival=migration arrivals=2 run=9d"),
        (
            "agreement",
            {"host": "beta", "channels": [OVIRT, OVIRT | {"state": "lost", "reason": "port-closed"}], "tools": TOOLS},
            "channels=ovirt-guest-agent.0,agreed,3;ovirt-guest-agent.0,lost,3,port-closed tools=guest-tools,1.4.0-12",
        ),
        ("agreement", {"channels": [], "tools": None}, "channels=none"),
        ("daemon", {"what": "missed", "missed": None}, "what=missed"),
        ("new-kind", {"x": [1, "2"], "y": {"z": 1}}, "x=1;2 y="),
    ],
)
def test_events(kind: str, details: dict[str, object], words: str) -> None:
    line = sheets.render_event(Event("a-1", "2026-11-21T07:31:38.440Z", kind, "vm1", "u", details))
    assert line == f"2026-11-21T07:31:38.440Z {kind} vm1 {words}".rstrip(" ")


def test_an_event_of_no_domain() -> None:
    assert sheets.render_event(Event("a-1", "t", "daemon", None, None, {})) == "t daemon -"
