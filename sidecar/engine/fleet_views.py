"""What the API shows of the fleet, and what another host's summary says, whatever it may be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf, isfinite
from typing import Annotated, Any

import msgspec

from sidecar.api.views import (
    ChannelView,
    DomainView,
    FleetCapView,
    FleetHostView,
    FleetView,
    HostView,
    OldestAgreementView,
    SummaryView,
)
from sidecar.engine.clocks import render_time
from sidecar.engine.settings import FleetLevels
from sidecar.protocol.guest_text import clean_line, clean_text
from sidecar.protocol.host_offer import HostOffer
from sidecar.protocol.known_fleet import KnownFleet
from sidecar.protocol.releases import Release
from sidecar.protocol.roster import KnownHost
from sidecar.protocol.states import Dialect, State
from sidecar.record.policy import Offer

# libvirt's bound on a domain's name is 255 bytes.
_NAME_LIMIT_CHARACTERS = 255


class _OldestDocument(msgspec.Struct, frozen=True):
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9.]{1,32}\Z")]
    domain: Annotated[str, msgspec.Meta(max_length=_NAME_LIMIT_CHARACTERS)]
    since: Annotated[str, msgspec.Meta(pattern=r"^[0-9TZ:.+-]{1,40}\Z")]


class _SummaryDocument(msgspec.Struct, frozen=True):
    host: Any
    guests: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    oldest: dict[str, _OldestDocument] = {}


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """Another host's summary; see ``api.views.SummaryView``. ``guests`` is ``None`` where the API is below 1.3."""

    offer: HostOffer
    guests: int | None
    oldest: Mapping[str, OldestAgreementView]


def read_answer(document: object) -> HostAnswer:
    """Another host's summary, from JSON values; what is not known is ignored.

    Raises:
        ValueError: It is something else; the text says what is wrong in one printable line.
    """
    try:
        summary = msgspec.convert(document, _SummaryDocument)
    except msgspec.ValidationError as error:
        raise ValueError(clean_line(f"no host's summary: {error}")) from error
    oldest = {
        name: OldestAgreementView(agreed.version, clean_text(agreed.domain), agreed.since)
        for name, agreed in summary.oldest.items()
        if name in set(Dialect)
    }
    return HostAnswer(HostOffer.parse(summary.host), summary.guests, oldest)


def read_terms(offer: HostOffer) -> Offer:
    """What a guest meets there: the maxima after the caps."""
    return Offer(offer.ovirt.maximum, offer.qga.maximum)


def view_summary(host: HostView, domains: Iterable[DomainView]) -> SummaryView:
    """This host in a line; ``domains`` are all that run here."""
    found = tuple(domains)
    oldest: dict[str, tuple[Release, str, OldestAgreementView]] = {}
    for domain in found:
        for channel in domain.channels:
            if channel.state == State.AGREED:
                view = OldestAgreementView(channel.version, domain.name, channel.since)
                candidate = (_read_version(channel), channel.since, view)
                known = oldest.get(channel.dialect, candidate)
                oldest[channel.dialect] = min(known, candidate, key=lambda agreed: agreed[:2])
    return SummaryView(host, len(found), {dialect: agreed[2] for dialect, agreed in oldest.items()})


def view_fleet(
    own: SummaryView,
    hosts: Mapping[str, KnownHost],
    answers: Mapping[str, HostAnswer],
    caps: Mapping[str, FleetCapView],
    now: datetime,
    problem: str | None = None,
) -> FleetView:
    """Every host by name, with what it answered or else said last; ``problem``: why nobody was asked."""
    moment = render_time(now)
    silent = [host for name, host in hosts.items() if name not in answers]
    views = [
        _view_own(own, moment),
        *(_view_host(answer.offer, moment, answer) for answer in answers.values()),
        *(_view_host(host.offer, host.last_seen, None) for host in silent),
    ]
    complete = problem is None and not silent
    return FleetView(complete, tuple(sorted(views, key=lambda view: view.hostname)), caps, problem)


def view_caps(
    own: HostView, levels: FleetLevels, known: KnownFleet, wall: datetime, now: float
) -> dict[str, FleetCapView]:
    """What the fleet means for this host, by dialect; ``wall`` and ``now`` are the same moment on two clocks."""
    lowest: dict[Dialect, int | str] = {Dialect.OVIRT: known.lowest_ovirt, Dialect.QGA: str(known.lowest_qga)}
    rises = {dialect: known.find_raise(dialect) for dialect in levels.auto}
    return {
        dialect: FleetCapView(
            lowest=lowest[dialect],
            held_by=known.find_holder(dialect) or own.hostname,
            maximum=own.dialects[dialect].maximum,
            auto=dialect in levels.auto,
            raise_at=render_time(wall + timedelta(seconds=rises[dialect] - now))
            if isfinite(rises.get(dialect, inf))
            else None,
        )
        for dialect in Dialect
    }


def _read_version(channel: ChannelView) -> Release:
    """Of either dialect, for comparison with others of the same."""
    if channel.dialect == Dialect.OVIRT:
        return Release(int(channel.version), 0)
    return Release.parse(channel.version)


def _view_own(own: SummaryView, moment: str) -> FleetHostView:
    host = own.host
    return FleetHostView(
        host.hostname,
        host.host_uuid,
        host.daemon,
        host.bridge,
        host.dialects,
        True,
        moment,
        own.guests,
        own.oldest,
    )


def _view_host(offer: HostOffer, last_seen: str, answer: HostAnswer | None) -> FleetHostView:
    return FleetHostView(
        offer.hostname,
        offer.host_uuid,
        offer.daemon,
        offer.bridge,
        offer.dialects,
        answer is not None,
        last_seen,
        None if answer is None else answer.guests,
        {} if answer is None else answer.oldest,
    )
