"""The configuration file: TOML, every key optional, unknown keys are errors.

Source: docs/configuration.md.
"""

import importlib.util
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec

from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_versions import parse_qga_cap
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from sidecar.protocol.tools import Source, ToolsVersion
from sidecar.protocol.versions import parse_ovirt_cap

DEFAULT_PATH = Path("/etc/sidecar/sidecar.toml")

# The cap that the fleet decides on.
AUTO = "auto"

QGA_CHANNEL = "org.qemu.guest_agent.0"

# One year; a longer deadline is a slip of the pen.
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=365 * 24 * 3600)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=65536)]
_ChannelName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_TransportUrl = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9+.-]*://\S*$", max_length=4096)]
_Topic = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"^/[^\x00]*$")]


class LibvirtSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[libvirt]``: where libvirt is, and how soon a connection that hangs is given up."""

    uri: str = "qemu:///system"
    keepalive_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 5


class OvirtSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[ovirt]``: channels that speak the oVirt dialect, and their deadlines in seconds."""

    channels: tuple[_ChannelName, ...] = ("ovirt-guest-agent.0", "com.redhat.rhevm.vdsm")
    responsive_seconds: _Seconds = 120
    absent_seconds: _Seconds = 120


class QgaSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[qga]``: channels with a QEMU guest agent: libvirt's own, and those that are dialled; seconds."""

    channels: tuple[_ChannelName, ...] = (QGA_CHANNEL,)
    direct_channels: tuple[_ChannelName, ...] = ()
    absent_seconds: _Seconds = 120


class UpgradeLevelsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[upgrade_levels]``: caps, as ``parse_ovirt_cap`` and ``parse_qga_cap`` read them, or ``AUTO``: the fleet's."""

    ovirt: int | str = "max"
    qga: int | str = "max"


class CurrentTools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tools] current``: a version for each source, as ``ToolsVersion.parse`` reads it."""

    guest_tools: str | None = msgspec.field(name=Source.GUEST_TOOLS.value, default=None)
    applications: str | None = None
    qga: str | None = None

    @property
    def texts(self) -> Mapping[str, str]:
        """What is given, by its key."""
        return {key: text for key, text in msgspec.to_builtins(self).items() if text is not None}


class ToolsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tools]``: which version of the guest's tools is current, and whether a file may be looked for in the guest."""

    current: CurrentTools = CurrentTools()
    read_guest_file: bool = False


class PathsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[paths]``: the hook's spool, and the directory of ``host.json``."""

    spool: _AbsolutePath = "/run/sidecar/spool"
    state: _AbsolutePath = "/run/sidecar"


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[api]``: the unix sockets of the API, and the group that may use the one with every operation."""

    socket: _AbsolutePath = "/run/sidecar/api.sock"
    readonly_socket: _AbsolutePath = "/run/sidecar/api-ro.sock"
    socket_group: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "libvirt"


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: what clients of the API may use; seconds, bytes, connections at a time."""

    connections: _Count = 256
    connections_per_uid: _Count = 128
    readonly_connections: _Count = 64
    readonly_connections_per_uid: _Count = 16
    body_bytes: Annotated[int, msgspec.Meta(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    request_seconds: _Seconds = 10
    idle_seconds: _Seconds = 60


class BusSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[bus]``: the message bus that this host shares with others, by oslo.messaging; without ``url`` there is none.

    ``url`` is a transport URL of oslo.messaging's, ``admin_url`` another with a user of its own, over which operations
    that change something are served where ``admin`` is true. ``directory`` holds what must outlive a restart: events
    that the broker has not taken yet, at most ``outbox_events`` of them, and the hosts that are known.
    ``oslo_messaging_rabbit`` are options of oslo.messaging's by its own names.
    """

    url: _TransportUrl | None = None
    admin: bool = False
    admin_url: _TransportUrl | None = None
    directory: _AbsolutePath = "/var/lib/sidecar"
    outbox_events: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = 100_000
    notification_topics: Annotated[tuple[_Topic, ...], msgspec.Meta(min_length=1)] = ("notifications",)
    oslo_messaging_rabbit: dict[str, bool | int | float | str] = {}  # msgspec copies it


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: the least severe level that is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file, validated; defaults where the file is silent."""

    libvirt: LibvirtSection = LibvirtSection()
    ovirt: OvirtSection = OvirtSection()
    qga: QgaSection = QgaSection()
    upgrade_levels: UpgradeLevelsSection = UpgradeLevelsSection()
    tools: ToolsSection = ToolsSection()
    paths: PathsSection = PathsSection()
    api: ApiSection = ApiSection()
    limits: LimitsSection = LimitsSection()
    bus: BusSection = BusSection()
    log: LogSection = LogSection()

    @property
    def ovirt_maximum(self) -> int:
        """This host's highest oVirt API version after its cap; a cap of the fleet's comes on top."""
        return parse_ovirt_cap(_local_cap(self.upgrade_levels.ovirt))

    @property
    def qga_maximum(self) -> Release:
        """Likewise, the newest QEMU release; none when it is capped to 0."""
        return parse_qga_cap(_local_cap(self.upgrade_levels.qga))

    @property
    def auto_dialects(self) -> frozenset[Dialect]:
        """The dialects whose cap is the fleet's; without a bus there is none."""
        if self.bus.url is None:
            return frozenset()
        levels = {Dialect.OVIRT: self.upgrade_levels.ovirt, Dialect.QGA: self.upgrade_levels.qga}
        return frozenset(dialect for dialect, level in levels.items() if level == AUTO)

    @property
    def tools_current(self) -> Mapping[Source, ToolsVersion]:
        """The version that counts as current, by source; nothing for a source without one."""
        return {Source(source): ToolsVersion.parse(text) for source, text in self.tools.current.texts.items()}

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Every channel that is looked after."""
        return (*self.ovirt.channels, *self.qga.channels, *self.qga.direct_channels)


def load_configuration(path: Path | None) -> Configuration:
    """Read the file at ``path``; without one the default file, which may be missing.

    Raises:
        ConfigurationError: One line that names file, key and expectation.
    """
    file = path or DEFAULT_PATH
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        if path is None:
            return Configuration()
        raise ConfigurationError(f"{file}: no such file") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    return parse_configuration(text, str(file))


def parse_configuration(text: bytes, source: str) -> Configuration:
    """As ``load_configuration``, from the file's bytes; ``source`` names the file in errors."""
    try:
        document: dict[str, Any] = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{source}: not TOML: {error}") from error
    try:
        configuration = msgspec.convert(document, Configuration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{source}: {_explain(str(error))}") from error
    problem = (
        _find_channel_problem(configuration)
        or _find_tools_problem(configuration.tools.current)
        or _find_bus_problem(configuration.bus)
    )
    if problem is not None:
        raise ConfigurationError(f"{source}: {problem}")
    for key in ("ovirt", "qga"):
        try:
            getattr(configuration, f"{key}_maximum")
        except ConfigurationError as error:
            raise ConfigurationError(f'{source}: upgrade_levels.{key}: {error}, or "{AUTO}"') from error
    return configuration


def _find_channel_problem(configuration: Configuration) -> str | None:
    ovirt, direct = configuration.ovirt.channels, configuration.qga.direct_channels
    for key, names in (("ovirt.channels", ovirt), ("qga.direct_channels", direct)):
        if QGA_CHANNEL in names:
            return f"{key}: expected no {QGA_CHANNEL}, whose socket libvirt holds"
    if not set(configuration.qga.channels) <= {QGA_CHANNEL}:
        return f"qga.channels: expected {QGA_CHANNEL} or none: libvirt reaches no other; see qga.direct_channels"
    both = sorted(set(ovirt) & set(direct))
    return f"qga.direct_channels: expected other names than in ovirt.channels: {both[0]!a}" if both else None


_TOOLS_VERSION = 'expected a version in quotes, MAJOR.MINOR[.MICRO][-BUILD], such as "1.4.0-12"'


def _find_tools_problem(current: CurrentTools) -> str | None:
    for key, text in current.texts.items():
        try:
            ToolsVersion.parse(text)
        except ValueError:
            return f"tools.current.{key}: {_TOOLS_VERSION}"
    return None


_TRANSPORT_URL = "a transport URL such as rabbit://USER:PASSWORD@HOST:5672/VHOST"


def _find_bus_problem(bus: BusSection) -> str | None:
    """What is wrong. A transport URL carries a password: none is ever printed."""
    if bus.admin and bus.url is None:
        return f"bus.url: expected, with admin = true, {_TRANSPORT_URL}"
    users, admins = _read_users(bus.url or ""), _read_users(bus.admin_url or "")
    if bus.admin and ("" in admins or users & admins):
        return "bus.admin_url: expected, with admin = true, a transport URL with a user of its own"
    if bus.url is not None and importlib.util.find_spec("oslo_messaging") is None:
        return "bus.url: expected libvirt-sidecar[bus] to be installed (no module oslo_messaging)"
    return None


def _read_users(url: str) -> set[str]:
    """Who a transport URL logs in as, at each of the brokers that it may name; ``""`` where it does not say."""
    brokers = url.partition("://")[2].partition("/")[0].split(",")
    return {unquote(broker.rpartition("@")[0].partition(":")[0]) for broker in brokers}


def _local_cap(level: int | str) -> int | str:
    """What caps this host without a fleet."""
    return "max" if level == AUTO else level


# For these keys msgspec's own words do not tell what is expected.
_EXPECTATIONS = {
    "upgrade_levels.ovirt": 'expected a version, a release alias, "max" or "auto"',
    "upgrade_levels.qga": 'expected a release in quotes, such as "7.2", a release alias, "max" or "auto"',
    **{f"tools.current.{source}": _TOOLS_VERSION for source in Source},
    "log.level": "expected one of debug, info, warning, error",
    "paths.spool": "expected an absolute path",
    "paths.state": "expected an absolute path",
    "api.socket": "expected an absolute path",
    "api.readonly_socket": "expected an absolute path",
    "bus.url": f"expected {_TRANSPORT_URL}",
    "bus.admin_url": f"expected {_TRANSPORT_URL}",
    "bus.directory": "expected an absolute path",
    "bus.notification_topics": "expected topics of letters, digits, - and _, at least one",
}
_UNKNOWN = r"Object contains unknown field `(?P<field>.*?)`"
_PROBLEM = re.compile(rf"(?:{_UNKNOWN}|(?P<problem>.*?))(?: - at `\$\.?(?P<key>[^`]*)`)?", re.DOTALL)


def _explain(message: str) -> str:
    """Turn msgspec's "problem - at `$.section.key`" round: the key first, and one line whatever the key is."""
    found = _PROBLEM.fullmatch(message)
    assert found is not None
    field, problem, key = found["field"], found["problem"], found["key"] or ""
    if field is not None:
        name = field if field and field.isprintable() else ascii(field)
        return f"{key}.{name}: unknown key" if key else f"{name}: unknown key"
    problem = _EXPECTATIONS.get(key.partition("[")[0]) or problem.replace("`object`", "`table`")
    return f"{key}: {problem[0].lower()}{problem[1:]}"
