"""What the daemon answered, as text for people: one function a view. Escaping and fitting is ``tables``' work."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.api.events import Event, EventType
from sidecar.api.views import (
    ChannelForecastView,
    DoctorView,
    DomainView,
    FactView,
    FindingView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
)
from sidecar.cli.tables import render_sheet, render_table
from sidecar.cli.terminal import Screen, escape

_STATE = ("STATE",)


def render_domains(domains: Sequence[DomainView], screen: Screen) -> str:
    """One row for each channel, and one for a domain without any."""
    rows: list[tuple[object, ...]] = []
    for domain in domains:
        tools = domain.tools and f"{domain.tools.source} {domain.tools.version}"
        for channel in domain.channels:
            row = (channel.name, channel.state, channel.version, channel.reason, tools)
            rows.append((domain.name, domain.activity, *row))
        if not domain.channels:
            rows.append((domain.name, domain.activity, None, None, None, None, tools))
    titles = ("DOMAIN", "ACTIVITY", "CHANNEL", "STATE", "VERSION", "REASON", "TOOLS")
    return render_table(titles, rows, screen, _STATE)


def render_domain(domain: DomainView, screen: Screen) -> str:
    """One domain: its arrival, its tools, its channels."""
    pairs: list[tuple[str, object]] = [
        ("name", domain.name),
        ("uuid", domain.uuid),
        ("activity", domain.activity),
        ("host", domain.host and f"{domain.host} ({domain.host_uuid})"),
        ("arrival", domain.arrival and f"{domain.arrival}, number {domain.arrivals}, {domain.arrived}"),
        ("recorded", _yes(domain.recorded)),
        ("tools", _describe_tools(domain)),
    ]
    return f"{render_sheet(pairs)}\n\n{render_channels(domain, screen)}"


def render_channels(domain: DomainView, screen: Screen) -> str:
    """A domain's channels."""
    titles = ("CHANNEL", "STATE", "VERSION", "GUEST", "HOST", "SINCE", "REASON")
    rows = [(c.name, c.state, c.version, c.guest, c.host, c.since, c.reason) for c in domain.channels]
    return render_table(titles, rows, screen, _STATE)


def _describe_tools(domain: DomainView) -> str | None:
    tools = domain.tools
    if tools is None:
        return None
    return f"{tools.source} {tools.version}, up to date: {tools.up_to_date}, upgradable: {tools.upgradable}"


def render_guest(guest: GuestView, screen: Screen) -> str:
    """What the guest told of itself, each with its age."""
    if not guest.facts:
        return "guest: has told nothing of itself yet"
    return render_table(("GUEST TOLD", "CHANNEL", "AGE", "VALUE"), map(_describe_fact, guest.facts), screen)


def _describe_fact(fact: FactView) -> tuple[object, ...]:
    value = json.dumps(fact.value, ensure_ascii=False)
    return fact.name, fact.channel, describe_age(fact.age_seconds), value + (" (cut)" if fact.truncated else "")


def describe_age(seconds: float) -> str:
    """A time that has passed, in its largest unit that is not below two."""
    for unit, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def render_messages(messages: Sequence[MessageView], screen: Screen) -> str:
    """The message table."""
    titles = ("MESSAGE", "DIALECT", "SINCE", "MAY", "CHANNEL", "WHY NOT")
    rows = [(m.message, m.dialect, m.since, _yes(m.allowed), m.channel, m.why) for m in messages]
    return render_table(titles, rows, screen, ("MAY",))


def render_host(host: HostView) -> str:
    """This host's offer."""
    pairs: list[tuple[str, object]] = [
        ("hostname", host.hostname),
        ("host_uuid", host.host_uuid),
        ("daemon", host.daemon),
        ("bridge", host.bridge),
    ]
    pairs += [(f"{name} maximum", f"{offer.maximum} (cap {offer.cap})") for name, offer in host.dialects.items()]
    for name, aliases in (host.aliases or {}).items():
        pairs.append((f"{name} aliases", ", ".join(f"{alias} = {version}" for alias, version in aliases.items())))
    return render_sheet(pairs)


def render_preflight(forecast: PreflightView, screen: Screen) -> str:
    """What is agreed now and there, and below it every message lost."""
    titles = ("CHANNEL", "STATE", "AGREED", "THERE", "LOST")
    rows = [(c.name, c.state, c.agreed, c.there, len(c.lost)) for c in forecast.channels]
    lost = [row for channel in forecast.channels for row in _list_lost(channel)]
    parts = [render_table(titles, rows, screen, _STATE)]
    if lost:
        parts.append(render_table(("LOST MESSAGE", "CHANNEL", "DIRECTION", "SINCE", "USED HERE"), lost, screen))
    return "\n\n".join(parts)


def _list_lost(channel: ChannelForecastView) -> list[tuple[object, ...]]:
    return [(lost.message, channel.name, lost.direction, lost.since, _yes(lost.used)) for lost in channel.lost]


def render_doctor(report: DoctorView) -> str:
    """What was looked at, and each fault with its cure, or that there is none."""
    lines = [f"looked at: {escape(what)}" for what in report.checked]
    for finding in report.findings:
        lines += ["", *_render_finding(finding)]
    if report.healthy:
        lines += ["", "no fault found"]
    return "\n".join(lines)


def _render_finding(finding: FindingView) -> list[str]:
    where = " ".join(escape(part) for part in (finding.domain, finding.channel) if part)
    head = f"{escape(finding.code)}: {where}: " if where else f"{escape(finding.code)}: "
    # Advice may be some lines long: XML, say.
    advice = [f"  {escape(line)}" for line in finding.advice.splitlines()]
    return [head + escape(finding.problem), *advice]


def render_event(event: Event) -> str:
    """One line: when, what kind, which domain, and what."""
    details = {name: value for name, value in event.details.items() if value is not None}
    if event.type == EventType.AGREEMENT:
        details = {name: details[name] for name in ("channels", "tools") if name in details}
    words = [
        f"{name}={_describe(value)}" if name != event.type else _describe(value) for name, value in details.items()
    ]
    return escape(" ".join([event.time, event.type, event.domain or "-", *words]))


def _describe(value: Any) -> str:
    """A detail in a few words: channels and tools as their columns, the rest as it is."""
    if isinstance(value, list):
        return ";".join(map(_describe, value)) or "none"
    if isinstance(value, Mapping):
        names = ("name", "source", "state", "version", "reason")
        return ",".join(str(value[name]) for name in names if value.get(name) is not None)
    return str(value)


def _yes(value: object) -> str:
    return "yes" if value else "no"
