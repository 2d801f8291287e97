"""The configuration file: TOML, every key optional, unknown keys are errors.

Source: docs/configuration.md.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_versions import parse_qga_cap
from sidecar.protocol.releases import Release
from sidecar.protocol.tools import Source, ToolsVersion
from sidecar.protocol.versions import parse_ovirt_cap

DEFAULT_PATH = Path("/etc/sidecar/sidecar.toml")

QGA_CHANNEL = "org.qemu.guest_agent.0"

# One year; a longer deadline is a slip of the pen.
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=365 * 24 * 3600)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=65536)]
_ChannelName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
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
    """``[upgrade_levels]``: caps, as ``parse_ovirt_cap`` and ``parse_qga_cap`` read them."""

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
    log: LogSection = LogSection()

    @property
    def ovirt_maximum(self) -> int:
        """This host's highest oVirt API version after its cap."""
        return parse_ovirt_cap(self.upgrade_levels.ovirt)

    @property
    def qga_maximum(self) -> Release:
        """This host's newest QEMU release after its cap; none when it is capped to 0."""
        return parse_qga_cap(self.upgrade_levels.qga)

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
    problem = _find_channel_problem(configuration) or _find_tools_problem(configuration.tools.current)
    if problem is not None:
        raise ConfigurationError(f"{source}: {problem}")
    for key in ("ovirt", "qga"):
        try:
            getattr(configuration, f"{key}_maximum")
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: upgrade_levels.{key}: {error}") from error
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


# For these keys msgspec's own words do not tell what is expected.
_EXPECTATIONS = {
    "upgrade_levels.ovirt": 'expected a version, a release alias or "max"',
    "upgrade_levels.qga": 'expected a release in quotes, such as "7.2", a release alias or "max"',
    **{f"tools.current.{source}": _TOOLS_VERSION for source in Source},
    "log.level": "expected one of debug, info, warning, error",
    "paths.spool": "expected an absolute path",
    "paths.state": "expected an absolute path",
    "api.socket": "expected an absolute path",
    "api.readonly_socket": "expected an absolute path",
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
    problem = _EXPECTATIONS.get(key) or problem.replace("`object`", "`table`")
    return f"{key}: {problem[0].lower()}{problem[1:]}"
