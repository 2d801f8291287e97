"""What the fleet answered, as text for people; see ``sheets``."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sidecar.api.views import (
    DialectOffer,
    FleetForecastView,
    FleetHostView,
    FleetView,
    GuestForecastView,
    LossView,
    OldestAgreementView,
)
from sidecar.cli.sheets import describe_age
from sidecar.cli.tables import render_table
from sidecar.cli.terminal import Screen, escape

_DIALECTS = ("ovirt", "qga")


def render_fleet(fleet: FleetView, screen: Screen, now: datetime) -> str:
    """One row for each host, and below them what the fleet means for the host that was asked.

    Args:
        fleet: All of it.
        screen: Where it goes.
        now: For how long somebody has been silent.
    """
    titles = ("HOST", "ANSWERED", "DAEMON", "BRIDGE", "OVIRT MAX", "QGA MAX", "GUESTS", "OVIRT OLDEST", "QGA OLDEST")
    rows = [_describe_host(host, now) for host in fleet.hosts]
    parts = [render_table(titles, rows, screen, ("ANSWERED",))]
    if fleet.caps:
        parts.append(_render_caps(fleet, screen))
    return "\n\n".join(parts)


def _describe_host(host: FleetHostView, now: datetime) -> tuple[object, ...]:
    answered = "yes" if host.answered else _describe_silence(host.last_seen, now)
    offers = [_describe_offer(host.dialects, dialect) for dialect in _DIALECTS]
    oldest = [_describe_oldest(host.oldest, dialect) for dialect in _DIALECTS]
    return host.hostname, answered, host.daemon, host.bridge, *offers, host.guests, *oldest


def _describe_silence(last_seen: str, now: datetime) -> str:
    try:
        seconds = (now - datetime.fromisoformat(last_seen)).total_seconds()
    except (TypeError, ValueError):  # a daemon that tells otherwise: it has no time zone, or is no time
        return "no"
    return f"silent {describe_age(max(0.0, seconds))}"


def _describe_offer(dialects: Mapping[str, DialectOffer], dialect: str) -> str | None:
    offer = dialects.get(dialect)
    return None if offer is None else f"{offer.maximum} ({offer.cap})"


def _describe_oldest(oldest: Mapping[str, OldestAgreementView], dialect: str) -> str | None:
    agreement = oldest.get(dialect)
    return None if agreement is None else f"{agreement.version} ({agreement.domain})"


def _render_caps(fleet: FleetView, screen: Screen) -> str:
    titles = ("DIALECT", "LOWEST COMMON", "HELD BY", "OFFERED HERE", "AUTO", "RISES AT")
    rows = [
        (dialect, cap.lowest, cap.held_by, cap.maximum, "yes" if cap.auto else "no", cap.raise_at)
        for dialect, cap in fleet.caps.items()
    ]
    return render_table(titles, rows, screen)


def render_forecast(forecast: FleetForecastView, screen: Screen) -> str:
    """Each guest with the hosts that would keep its agreements; below it what it would lose on the others."""
    parts = [escape(f"no guest runs on {forecast.host}")]
    if forecast.guests:
        rows = [(guest.name, len(guest.keeps), _join(guest.keeps)) for guest in forecast.guests]
        parts = [render_table(("GUEST", "KEPT BY", "HOSTS"), rows, screen)]
    lost = [row for guest in forecast.guests for loss in guest.losing for row in _list_losses(guest, loss)]
    if lost:
        titles = ("GUEST", "LOSES ON", "CHANNEL", "AGREED", "THERE", "WHAT")
        parts.append(render_table(titles, lost, screen))
    if forecast.unanswered:
        parts.append(escape(f"did not answer: {_join(forecast.unanswered)}"))
    return "\n\n".join(parts)


def _list_losses(guest: GuestForecastView, loss: LossView) -> list[tuple[object, ...]]:
    hosts = _join(loss.hosts)
    rows: list[tuple[object, ...]] = [
        (
            guest.name,
            hosts,
            channel.name,
            channel.agreed,
            channel.there,
            _list_messages([lost.message for lost in channel.lost]),
        )
        for channel in loss.channels
    ]
    if loss.refusal is not None:
        rows.append((guest.name, hosts, None, None, None, loss.refusal))
    return rows


def _join(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


def _list_messages(names: Sequence[object]) -> str:
    return f"{len(names)} message{'s' * (len(names) != 1)}: {_join(names)}"
