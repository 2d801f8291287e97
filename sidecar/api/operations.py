"""The table of operations: name, arguments, result, problems, who may, since which version, and where REST has it.

To add one: a row here with its version, a line in the history (``versions``), a method of that name on
``engine.operations.Operations``. The bindings, the OpenAPI document and the client's refusals follow from the row.

Source: docs/api.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from sidecar.api.events import Event
from sidecar.api.problems import ProblemCode
from sidecar.api.versions import ApiVersion
from sidecar.api.views import (
    DoctorView,
    DomainView,
    FleetForecastView,
    FleetView,
    ForgottenView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
    SentView,
    SummaryView,
    VersionView,
)
from sidecar.errors import RefusalCode

# A year has no use; an hour is what the longest freeze or file system trim takes.
SECONDS_LIMIT = 3600.0


class Access(Enum):
    """Who may: every local user, who reads what libvirt shows him anyway, or who may manage domains."""

    READ = "both sockets"
    FULL = "the socket of root and the libvirt group"

    def allows(self, wanted: "Access") -> bool:
        """Whether who may do this may do what is wanted, too."""
        return self is Access.FULL or wanted is Access.READ


class Kind(Enum):
    """What an argument is; the value is its type in JSON Schema."""

    TEXT = "string"
    SECONDS = "number"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; ``None`` as ``default`` means that it may be left out.

    ``is_body``: in REST it is the request's whole body. ``parameter`` is its name in Python, where ``for`` is taken.
    """

    name: str
    kind: Kind
    why: str
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    is_body: bool = False

    @property
    def parameter(self) -> str:
        """See the class."""
        return "state" if self.name == "for" else self.name


@dataclass(frozen=True, slots=True)
class Operation:
    """One row.

    ``result`` is the view, of which there are several in a list where ``many``; ``streams``: REST sends them one by
    one, for as long as the client listens. ``paths`` are REST's, the first the one with the fewest arguments.
    """

    name: str
    since: ApiVersion
    access: Access
    changes: bool
    method: str
    paths: tuple[str, ...]
    arguments: tuple[Argument, ...]
    result: type[Any]
    problems: tuple[str, ...]
    why: str
    many: bool = False
    streams: bool = False

    def argument(self, name: str) -> Argument | None:
        """The argument of this name."""
        return next((argument for argument in self.arguments if argument.name == name), None)


_DOMAIN = Argument("domain", Kind.TEXT, "name or UUID of a domain that runs here", required=True)
_CHANNEL = Argument("channel", Kind.TEXT, "target name of the channel; the one that fits best without")
_MESSAGE = Argument("message", Kind.TEXT, "a message of oVirt's, or a command of the QEMU guest agent", required=True)
_HOST = Argument("host", Kind.TEXT, "hostname of a host of the fleet", required=True)
_PATIENCE = Argument("timeout", Kind.SECONDS, "seconds to wait for the other hosts", default=5.0)
_1_0, _1_1, _1_2, _1_3 = (ApiVersion(1, minor) for minor in range(4))

# What every operation can end in; the rows name what is their own.
COMMON_PROBLEMS = (
    ProblemCode.BAD_REQUEST,
    ProblemCode.UNSUPPORTED_VERSION,
    ProblemCode.FORBIDDEN,
    ProblemCode.TOO_MANY_CONNECTIONS,
    ProblemCode.INTERNAL,
)
_NO_DOMAIN = (ProblemCode.DOMAIN_NOT_FOUND, ProblemCode.LIBVIRT_UNAVAILABLE)
_FAILED = ProblemCode.LIBVIRT_FAILED
_NO_FLEET = (ProblemCode.LIBVIRT_UNAVAILABLE, ProblemCode.BUS_UNAVAILABLE)
_NO_HOST = (ProblemCode.HOST_NOT_FOUND, ProblemCode.HOST_UNREACHABLE)

_ROWS = (
    Operation(
        "host",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/host",),
        (),
        HostView,
        (ProblemCode.LIBVIRT_UNAVAILABLE,),
        "this host and what it offers",
    ),
    Operation(
        "can_send_version",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/can-send-version",),
        (Argument("version", Kind.TEXT, "MAJOR.MINOR", required=True),),
        VersionView,
        (),
        "whether a caller that speaks this version of the API is served here",
    ),
    Operation(
        "list",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/domains",),
        (),
        DomainView,
        (ProblemCode.LIBVIRT_UNAVAILABLE,),
        "every domain that runs here: channels, agreement, tools",
        many=True,
    ),
    Operation(
        "show",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/domains/{domain}",),
        (_DOMAIN,),
        DomainView,
        _NO_DOMAIN,
        "one domain: channels, agreement, tools",
    ),
    Operation(
        "guest",
        _1_0,
        Access.FULL,
        False,
        "GET",
        ("/v1/domains/{domain}/guest",),
        (_DOMAIN,),
        GuestView,
        _NO_DOMAIN,
        "what the guest told of itself last, each with its age; during a migration, too",
    ),
    Operation(
        "messages",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/domains/{domain}/messages",),
        (_DOMAIN, _CHANNEL),
        MessageView,
        (*_NO_DOMAIN, ProblemCode.CHANNEL_NOT_FOUND),
        "the message table, with what may be sent now and, where not, why",
        many=True,
    ),
    Operation(
        "can_send",
        _1_0,
        Access.READ,
        False,
        "GET",
        ("/v1/domains/{domain}/messages/{message}",),
        (_DOMAIN, _MESSAGE, _CHANNEL),
        MessageView,
        (*_NO_DOMAIN, RefusalCode.NOT_IN_TABLE),
        "whether a message may be sent now",
    ),
    Operation(
        "send",
        _1_0,
        Access.FULL,
        True,
        "POST",
        ("/v1/domains/{domain}/messages/{message}",),
        (
            _DOMAIN,
            _MESSAGE,
            Argument("arguments", Kind.OBJECT, "the message's own arguments; they reach no log"),
            Argument("timeout", Kind.SECONDS, "seconds to wait for the answer", default=10.0),
            _CHANNEL,
        ),
        SentView,
        (
            *_NO_DOMAIN,
            *RefusalCode,
            ProblemCode.COMMAND_FAILED,
            ProblemCode.NOT_SENT,
            ProblemCode.NO_ANSWER,
            ProblemCode.BAD_REPLY,
            ProblemCode.JOB_HELD,
            ProblemCode.OUTCOME_UNKNOWN,
            _FAILED,
        ),
        "send a message, when it may be sent, and wait for its answer where it has one",
    ),
    Operation(
        "renegotiate",
        _1_0,
        Access.FULL,
        True,
        "POST",
        ("/v1/domains/{domain}/renegotiate",),
        (_DOMAIN, _CHANNEL),
        DomainView,
        (*_NO_DOMAIN, ProblemCode.CHANNEL_NOT_FOUND),
        "forget what was agreed and negotiate anew; the answer does not wait for that, and wait does",
    ),
    Operation(
        "wait",
        _1_1,
        Access.READ,
        False,
        "GET",
        ("/v1/domains/{domain}/wait",),
        (
            _DOMAIN,
            Argument(
                "for",
                Kind.TEXT,
                "the state to wait for",
                default="agreed",
                choices=("agreed", "unversioned", "waiting", "lost", "absent"),
            ),
            Argument("timeout", Kind.SECONDS, "seconds to wait", default=60.0),
            Argument("channel", Kind.TEXT, "only this channel; without, one channel of each dialect has to be there"),
        ),
        DomainView,
        (*_NO_DOMAIN, ProblemCode.CHANNEL_NOT_FOUND, ProblemCode.NOT_IN_TIME),
        "return as soon as this arrival's record stands with that state; a domain may still be on its way here",
    ),
    Operation(
        "events",
        _1_1,
        Access.READ,
        False,
        "GET",
        ("/v1/events",),
        (
            Argument("domain", Kind.TEXT, "name or UUID: only what concerns this domain"),
            Argument("after", Kind.TEXT, "the id of the last event that is known; those after it come first"),
            Argument("timeout", Kind.SECONDS, "where the binding does not stream: seconds to wait", default=0.0),
        ),
        Event,
        (),
        "what happens from now on",
        many=True,
        streams=True,
    ),
    Operation(
        "preflight",
        _1_2,
        Access.FULL,
        False,
        "POST",
        ("/v1/domains/{domain}/preflight",),
        (_DOMAIN, Argument("offer", Kind.OBJECT, "the other host's offer (its host)", required=True, is_body=True)),
        PreflightView,
        (*_NO_DOMAIN, _FAILED),
        "what the guest would lose on another host, before it moves there",
    ),
    Operation(
        "doctor",
        _1_2,
        Access.FULL,
        False,
        "GET",
        ("/v1/doctor", "/v1/domains/{domain}/doctor"),
        (Argument("domain", Kind.TEXT, "name or UUID: only this domain"),),
        DoctorView,
        (*_NO_DOMAIN, _FAILED),
        "what is wrong with host, hook, sockets and channels, and how to mend it",
    ),
    Operation(
        "summary",
        _1_3,
        Access.READ,
        False,
        "GET",
        ("/v1/summary",),
        (),
        SummaryView,
        (ProblemCode.LIBVIRT_UNAVAILABLE,),
        "this host in a line: its offer, its guests, the oldest agreement with one of them",
    ),
    Operation(
        "preflight_to",
        _1_3,
        Access.FULL,
        False,
        "GET",
        ("/v1/domains/{domain}/preflight/{host}",),
        (_DOMAIN, _HOST, _PATIENCE),
        PreflightView,
        (*_NO_DOMAIN, _FAILED, ProblemCode.BUS_UNAVAILABLE, *_NO_HOST),
        "what the guest would lose on a host of the fleet, which is asked for its offer",
    ),
    Operation(
        "fleet",
        _1_3,
        Access.FULL,
        False,
        "GET",
        ("/v1/fleet",),
        (_PATIENCE,),
        FleetView,
        _NO_FLEET,
        "every host of the fleet: versions, caps, guests, oldest agreements, and who did not answer",
    ),
    Operation(
        "fleet_forget",
        _1_3,
        Access.FULL,
        True,
        "POST",
        ("/v1/fleet/{host}/forget",),
        (_HOST,),
        ForgottenView,
        (*_NO_FLEET, ProblemCode.HOST_NOT_FOUND, ProblemCode.OUTCOME_UNKNOWN),
        "have every host of the fleet count a host no more that will not come back",
    ),
    Operation(
        "fleet_preflight",
        _1_3,
        Access.FULL,
        False,
        "GET",
        ("/v1/fleet/{host}/preflight",),
        (_HOST, _PATIENCE),
        FleetForecastView,
        (*_NO_FLEET, *_NO_HOST, _FAILED),
        "for every guest of a host: which hosts would keep its agreement, and what the others lose",
    ),
)

OPERATIONS: Mapping[str, Operation] = MappingProxyType({operation.name: operation for operation in _ROWS})
"""Every operation by its name."""
