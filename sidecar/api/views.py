"""The results of the operations: immutable snapshots, whose fields are the keys of their documents.

What the record shows has the names of the record's attributes, with ``_`` for ``-``, and the record's texts; ``None``
is what is not there. Whoever reads a document ignores the keys that it does not know: see ``read_view``.

Source: docs/api.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

ViewT = TypeVar("ViewT")


@dataclass(frozen=True, slots=True)
class DialectOffer:
    """What a host offers in one dialect: its ``maximum`` after its ``cap``.

    ``supported`` is what it could offer: the same, but for a cap ``"auto"``, which is the fleet's. Daemons before
    version 1.3 of the API do not tell.
    """

    maximum: int | str
    cap: int | str
    supported: int | str | None = None


@dataclass(frozen=True, slots=True)
class HostView:
    """A host's offer, as ``host.json`` holds it, too.

    ``daemon`` is the program's version, ``bridge`` the API's; ``dialects`` is keyed by ``ovirt`` and ``qga``, and so is
    ``aliases``: the release aliases that a cap may name, each with its version.
    """

    hostname: str
    host_uuid: str
    daemon: str
    bridge: str
    dialects: Mapping[str, DialectOffer]
    aliases: Mapping[str, Mapping[str, int | str]]


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One channel, as its element in the record says it: docs/record.md."""

    name: str
    dialect: str
    state: str
    version: str
    guest: str | None
    host: str
    since: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ToolsView:
    """The guest's tools, as the record says them; ``state`` is this host's whole verdict (docs/tools.md)."""

    source: str
    version: str
    upgradable: str
    up_to_date: str
    state: str


@dataclass(frozen=True, slots=True)
class DomainView:
    """One domain that runs here.

    ``activity`` is ``running``, ``paused`` or ``incoming`` (its guest has not arrived yet, and ``host`` to ``arrived``
    are ``None``). ``recorded`` tells whether the live XML holds just this.
    """

    name: str
    uuid: str
    activity: str
    host: str | None
    host_uuid: str | None
    run: str
    arrival: str | None
    arrivals: int | None
    arrived: str | None
    recorded: bool
    channels: Sequence[ChannelView]
    tools: ToolsView | None


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message, and whether it may be sent now.

    ``since`` is the version that brought it, ``purpose`` what it is for; ``channel`` would take it. Where it may not be
    sent, ``code`` is the problem's, ``why`` the sentence, ``required`` and ``agreed`` the versions that decide, and
    ``reason`` the channel's own code behind it.
    """

    message: str
    dialect: str
    since: str
    purpose: str
    allowed: bool
    channel: str | None
    code: str | None
    why: str | None
    required: str | None
    agreed: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class SentView:
    """A message that was sent; ``reply`` is the agent's answer as JSON values, ``None`` where there is none."""

    message: str
    channel: str
    reply: Any


@dataclass(frozen=True, slots=True)
class FactView:
    """One thing that a guest told of itself, as of ``received`` (RFC 3339), ``age_seconds`` ago.

    ``name`` is the message's, or the command's that was answered; ``value`` what it carried, cleaned; ``truncated``
    that it was more than is kept.
    """

    name: str
    channel: str
    dialect: str
    received: str
    age_seconds: float
    truncated: bool
    value: Any


@dataclass(frozen=True, slots=True)
class GuestView:
    """What the guest told of itself last, the newest word on each matter."""

    name: str
    uuid: str
    facts: Sequence[FactView]


@dataclass(frozen=True, slots=True)
class LostMessageView:
    """A message that the other host's version lacks; ``used``: it was seen on this channel since the guest is here."""

    message: str
    direction: str
    since: str
    used: bool


@dataclass(frozen=True, slots=True)
class ChannelForecastView:
    """What becomes of one channel on the other host: ``agreed`` now, ``there`` after; 0 where there is none."""

    name: str
    dialect: str
    state: str
    agreed: str
    there: str
    lost: Sequence[LostMessageView]


@dataclass(frozen=True, slots=True)
class PreflightView:
    """What a domain would lose on another host: ``nothing_lost``, or the channels' losses, or ``refusal``.

    ``refusal`` is the sentence with which that host would refuse the migration by the domain's policy.
    """

    name: str
    uuid: str
    destination: str
    nothing_lost: bool
    refusal: str | None
    channels: Sequence[ChannelForecastView]


@dataclass(frozen=True, slots=True)
class FindingView:
    """One fault: its stable ``code``, where it is (``domain``, ``channel``), what is wrong, and how to mend it."""

    code: str
    domain: str | None
    channel: str | None
    problem: str
    advice: str


@dataclass(frozen=True, slots=True)
class DoctorView:
    """What was looked at, each in a few words, and the faults that were found; ``healthy``: none."""

    healthy: bool
    checked: Sequence[str]
    findings: Sequence[FindingView]


@dataclass(frozen=True, slots=True)
class OldestAgreementView:
    """The lowest version that is agreed with a guest of a host, in one dialect, and with whom; ``since`` when.

    Of several with the same version it is the one that has stood longest.
    """

    version: str
    domain: str
    since: str


@dataclass(frozen=True, slots=True)
class SummaryView:
    """One host in a line: its offer, how many domains run there, and by dialect the oldest agreement, if any."""

    host: HostView
    guests: int
    oldest: Mapping[str, OldestAgreementView]


@dataclass(frozen=True, slots=True)
class FleetHostView:
    """A host of the fleet.

    ``answered``: its daemon was asked just now, and did. Without that ``guests`` is ``None``, ``oldest`` empty, and the
    rest what it said last, at ``last_seen`` (RFC 3339). Of a daemon whose ``bridge`` is below 1.3 there is no more
    either, though it answers.
    """

    hostname: str
    host_uuid: str
    daemon: str
    bridge: str
    dialects: Mapping[str, DialectOffer]
    answered: bool
    last_seen: str
    guests: int | None
    oldest: Mapping[str, OldestAgreementView]


@dataclass(frozen=True, slots=True)
class FleetCapView:
    """What the fleet means for this host, in one dialect.

    ``lowest`` is the lowest version that a host of the fleet supports, ``held_by`` the name of one that supports no
    more, ``maximum`` what this host offers now; ``auto`` whether its cap is the fleet's, ``raise_at`` when ``maximum``
    will rise to ``lowest`` if nothing changes until then (RFC 3339), ``None``: it will not, or is not automatic.
    """

    lowest: int | str
    held_by: str
    maximum: int | str
    auto: bool
    raise_at: str | None


@dataclass(frozen=True, slots=True)
class FleetView:
    """Every host that the fleet knows, by name; ``complete``: all of them answered. ``caps`` is keyed by dialect.

    ``problem`` is the sentence that says why no other host could be asked, ``None`` when they were.
    """

    complete: bool
    hosts: Sequence[FleetHostView]
    caps: Mapping[str, FleetCapView]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class ForgottenView:
    """A host that the fleet counts no more, until it is heard again."""

    hostname: str


@dataclass(frozen=True, slots=True)
class LossView:
    """What a guest would lose on any of some hosts, which lose the same: ``channels`` with losses, or ``refusal``."""

    hosts: Sequence[str]
    refusal: str | None
    channels: Sequence[ChannelForecastView]


@dataclass(frozen=True, slots=True)
class GuestForecastView:
    """Which hosts would keep a guest's agreement, and what the others lose."""

    name: str
    uuid: str
    keeps: Sequence[str]
    losing: Sequence[LossView]


@dataclass(frozen=True, slots=True)
class FleetForecastView:
    """Where the guests of ``host`` can go: by guest, over every host that answered; ``unanswered`` did not."""

    host: str
    guests: Sequence[GuestForecastView]
    unanswered: Sequence[str]


@dataclass(frozen=True, slots=True)
class VersionView:
    """Whether a caller of ``version`` is served by a daemon of the version ``served``; ``why`` not."""

    version: str
    served: str
    allowed: bool
    why: str | None


def read_view(kind: type[ViewT], document: Mapping[str, Any]) -> ViewT:
    """The view in a daemon's document: keys that are not known here are ignored.

    What is missing is ``None``, and of several things there are none.
    """
    values = {field.name: document.get(field.name) for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    for name, read in _NESTED.get(kind, {}).items():
        values[name] = read(values[name])
    return kind(**values)


def _one(kind: type[Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read_view(kind, value)


def _many(kind: type[Any]) -> Callable[[Any], Any]:
    return lambda value: tuple(read_view(kind, item) for item in value or ())


def _keyed(kind: type[Any]) -> Callable[[Any], Any]:
    return lambda value: {name: read_view(kind, item) for name, item in (value or {}).items()}


_NESTED: Mapping[type[Any], Mapping[str, Callable[[Any], Any]]] = {
    HostView: {"dialects": _keyed(DialectOffer)},
    DomainView: {"channels": _many(ChannelView), "tools": _one(ToolsView)},
    GuestView: {"facts": _many(FactView)},
    ChannelForecastView: {"lost": _many(LostMessageView)},
    PreflightView: {"channels": _many(ChannelForecastView)},
    SummaryView: {"host": _one(HostView), "oldest": _keyed(OldestAgreementView)},
    FleetHostView: {"dialects": _keyed(DialectOffer), "oldest": _keyed(OldestAgreementView)},
    FleetView: {"hosts": _many(FleetHostView), "caps": _keyed(FleetCapView)},
    LossView: {"hosts": lambda value: tuple(value or ()), "channels": _many(ChannelForecastView)},
    GuestForecastView: {"keeps": lambda value: tuple(value or ()), "losing": _many(LossView)},
    FleetForecastView: {"guests": _many(GuestForecastView), "unanswered": lambda value: tuple(value or ())},
    DoctorView: {"checked": lambda value: tuple(value or ()), "findings": _many(FindingView)},
}
