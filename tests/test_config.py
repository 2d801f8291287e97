import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sidecar.config
from sidecar.config import DEFAULT_PATH, Configuration, load_configuration, parse_configuration
from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_versions import QGA_ALIASES
from sidecar.protocol.states import Dialect
from sidecar.protocol.tools import Source, ToolsVersion
from sidecar.protocol.versions import OVIRT_ALIASES

EVERY_KEY = b"""
[libvirt]
uri = "qemu+unix:///system?socket=/run/other/sock"
keepalive_seconds = 7

[ovirt]
channels = ["org.example.agent"]
responsive_seconds = 30
absent_seconds = 0.5

[qga]
channels = []
direct_channels = ["org.qemu.guest_agent.1"]
absent_seconds = 8

[upgrade_levels]
ovirt = "ovirt-3.6"
qga = "debian-11"

[tools]
current = {guest-tools = "1.4.0-12", applications = "1.0.16", qga = "7.2"}
read_guest_file = true

[paths]
spool = "/run/other/spool"
state = "/run/other"

[api]
socket = "/run/other/a.sock"
readonly_socket = "/run/other/r.sock"
socket_group = "kvm"

[limits]
connections = 10
connections_per_uid = 9
readonly_connections = 8
readonly_connections_per_uid = 7
body_bytes = 2048
request_seconds = 6
idle_seconds = 5

[bus]
url = "rabbit://host:secret@broker:5672/sidecar"
admin = true
admin_url = "rabbit://admin:secret@broker:5672/admin"
directory = "/srv/sidecar"
outbox_events = 7
notification_topics = ["notifications", "billing"]

[bus.oslo_messaging_rabbit]
ssl = true
heartbeat_timeout_threshold = 5
ssl_ca_file = "/etc/ca.pem"

[log]
level = "debug"
"""
TOOLS_VERSION = 'expected a version in quotes, MAJOR.MINOR[.MICRO][-BUILD], such as "1.4.0-12"'
QUOTED = 'expected a release in quotes, such as "7.2", a release alias, "max" or "auto"'
NO_VERSION = 'expected a version, a release alias, "max" or "auto"'
NO_RELEASE = f'expected a release such as "10.0", 0, "max", or one of {", ".join(sorted(QGA_ALIASES))}, or "auto"'
TRANSPORT_URL = "a transport URL such as rabbit://USER:PASSWORD@HOST:5672/VHOST"
OWN_USER = "bus.admin_url: expected, with admin = true, a transport URL with a user of its own"
TOPICS = "expected topics of letters, digits, - and _, at least one"
NOT_LIBVIRTS = "expected org.qemu.guest_agent.0 or none: libvirt reaches no other; see qga.direct_channels"
BOTH = "expected other names than in ovirt.channels: 'ovirt-guest-agent.0'"
DEFAULTS = {
    "libvirt": {"uri": "qemu:///system", "keepalive_seconds": 5},
    "ovirt": {
        "channels": ("ovirt-guest-agent.0", "com.redhat.rhevm.vdsm"),
        "responsive_seconds": 120,
        "absent_seconds": 120,
    },
    "qga": {"channels": ("org.qemu.guest_agent.0",), "direct_channels": (), "absent_seconds": 120},
    "upgrade_levels": {"ovirt": "max", "qga": "max"},
    "tools": {"current": {"guest-tools": None, "applications": None, "qga": None}, "read_guest_file": False},
    "paths": {"spool": "/run/sidecar/spool", "state": "/run/sidecar"},
    "api": {
        "socket": "/run/sidecar/api.sock",
        "readonly_socket": "/run/sidecar/api-ro.sock",
        "socket_group": "libvirt",
    },
    "limits": {
        "connections": 256,
        "connections_per_uid": 128,
        "readonly_connections": 64,
        "readonly_connections_per_uid": 16,
        "body_bytes": 1024 * 1024,
        "request_seconds": 10,
        "idle_seconds": 60,
    },
    "bus": {
        "url": None,
        "admin": False,
        "admin_url": None,
        "directory": "/var/lib/sidecar",
        "outbox_events": 100_000,
        "notification_topics": ("notifications",),
        "oslo_messaging_rabbit": {},
    },
    "log": {"level": "info"},
}


def parse(text: str) -> Configuration:
    return parse_configuration(text.encode(), "FILE")


def refusal(text: str | bytes) -> str:
    """The one line that the operator reads."""
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(text if isinstance(text, bytes) else text.encode(), "FILE")
    line = str(caught.value)
    assert line.isprintable()
    return line


def test_defaults_are_the_contracts() -> None:
    assert Path("/etc/sidecar/sidecar.toml") == DEFAULT_PATH
    assert msgspec.to_builtins(Configuration()) == DEFAULTS
    assert parse("") == Configuration()
    assert parse("[ovirt]\n[libvirt]\n") == Configuration()
    assert Configuration().ovirt_maximum == 4


def test_every_key() -> None:
    configuration = parse_configuration(EVERY_KEY, "FILE")
    assert msgspec.to_builtins(configuration) == {
        "libvirt": {"uri": "qemu+unix:///system?socket=/run/other/sock", "keepalive_seconds": 7},
        "ovirt": {"channels": ("org.example.agent",), "responsive_seconds": 30, "absent_seconds": 0.5},
        "qga": {"channels": (), "direct_channels": ("org.qemu.guest_agent.1",), "absent_seconds": 8},
        "upgrade_levels": {"ovirt": "ovirt-3.6", "qga": "debian-11"},
        "tools": {
            "current": {"guest-tools": "1.4.0-12", "applications": "1.0.16", "qga": "7.2"},
            "read_guest_file": True,
        },
        "paths": {"spool": "/run/other/spool", "state": "/run/other"},
        "api": {"socket": "/run/other/a.sock", "readonly_socket": "/run/other/r.sock", "socket_group": "kvm"},
        "limits": {
            "connections": 10,
            "connections_per_uid": 9,
            "readonly_connections": 8,
            "readonly_connections_per_uid": 7,
            "body_bytes": 2048,
            "request_seconds": 6,
            "idle_seconds": 5,
        },
        "bus": {
            "url": "rabbit://host:secret@broker:5672/sidecar",
            "admin": True,
            "admin_url": "rabbit://admin:secret@broker:5672/admin",
            "directory": "/srv/sidecar",
            "outbox_events": 7,
            "notification_topics": ("notifications", "billing"),
            "oslo_messaging_rabbit": {"ssl": True, "heartbeat_timeout_threshold": 5, "ssl_ca_file": "/etc/ca.pem"},
        },
        "log": {"level": "debug"},
    }
    assert configuration.ovirt_maximum == 2
    assert str(configuration.qga_maximum) == "5.2"
    assert configuration.tools_current == {
        Source.GUEST_TOOLS: ToolsVersion(1, 4, 0, 12),
        Source.APPLICATIONS: ToolsVersion(1, 0, 16),
        Source.QGA: ToolsVersion(7, 2),
    }
    assert configuration.channel_names == ("org.example.agent", "org.qemu.guest_agent.1")


def test_a_source_without_a_version_has_none() -> None:
    assert Configuration().tools_current == {}
    assert parse("[tools.current]\nqga = '7.2'").tools_current == {Source.QGA: ToolsVersion(7, 2)}


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Configuration().log.level = "debug"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cap", "maximum"),
    [
        ('"max"', 4),
        ("0", 0),
        ("3", 3),
        ("4", 4),
        ("99", 4),
        ('"0"', 0),
        ('"3"', 3),
        *((f'"{alias}"', version) for alias, version in OVIRT_ALIASES.items()),
    ],
)
def test_caps(cap: str, maximum: int) -> None:
    assert parse(f"[upgrade_levels]\novirt = {cap}").ovirt_maximum == maximum


@pytest.mark.parametrize(
    "cap", ['"juno"', '"latest"', '"AUTO"', '"1.0"', '"MAX"', '""', '" 3"', '"-1"', "-1", str(2**31), "9" * 40]
)
def test_a_bad_cap_lists_what_there_is(cap: str) -> None:
    assert refusal(f"[upgrade_levels]\novirt = {cap}") == (
        'FILE: upgrade_levels.ovirt: expected a version from 0 to 4, "max", or one of ovirt-3.4, ovirt-3.5, ovirt-3.6, '
        'ovirt-4.0, ovirt-4.1, ovirt-4.2, ovirt-4.3, ovirt-4.4, ovirt-4.5, sidecar-0.1, or "auto"'
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # What is not known.
        ("colour = 1", "colour: unknown key"),
        ("[colours]", "colours: unknown key"),
        ("[libvirt]\nurl = 'x'", "libvirt.url: unknown key"),
        ("[ovirt]\nabsent = 1", "ovirt.absent: unknown key"),
        ("[ovirt.channels]", "ovirt.channels: expected `array`, got `table`"),
        ("[libvirt]\n'a`b' = 1", "libvirt.a`b: unknown key"),
        ("'a - at `b' = 1", "a - at `b: unknown key"),
        ("'a - at `$.b`' = 1", "a - at `$.b`: unknown key"),
        ('"a\\nb" = 1', "'a\\nb': unknown key"),
        ('[log]\n"\\u001b[31m" = 1', "log.'\\x1b[31m': unknown key"),
        ('"" = 1', "'': unknown key"),
        # What has the wrong type.
        ("libvirt = 3", "libvirt: expected `table`, got `int`"),
        ("[[libvirt]]", "libvirt: expected `table`, got `array`"),
        ("[libvirt]\nuri = 3", "libvirt.uri: expected `str`, got `int`"),
        ("[libvirt]\nkeepalive_seconds = true", "libvirt.keepalive_seconds: expected `int`, got `bool`"),
        ("[libvirt]\nkeepalive_seconds = 5.0", "libvirt.keepalive_seconds: expected `int`, got `float`"),
        ("[libvirt]\nkeepalive_seconds = '5'", "libvirt.keepalive_seconds: expected `int`, got `str`"),
        ("[ovirt]\nchannels = 'a'", "ovirt.channels: expected `array`, got `str`"),
        ("[ovirt]\nchannels = ['a', 1]", "ovirt.channels[1]: expected `str`, got `int`"),
        ("[ovirt]\nresponsive_seconds = false", "ovirt.responsive_seconds: expected `float`, got `bool`"),
        ("[ovirt]\nabsent_seconds = 2026-01-01", "ovirt.absent_seconds: expected `float`, got `date`"),
        ("[upgrade_levels]\novirt = true", f"upgrade_levels.ovirt: {NO_VERSION}"),
        ("[upgrade_levels]\novirt = 3.0", f"upgrade_levels.ovirt: {NO_VERSION}"),
        ("[upgrade_levels]\novirt = [3]", f"upgrade_levels.ovirt: {NO_VERSION}"),
        ("[upgrade_levels]\nqga = 7.2", f"upgrade_levels.qga: {QUOTED}"),
        ("[upgrade_levels]\nqga = 7", f"upgrade_levels.qga: {NO_RELEASE}"),
        ("[upgrade_levels]\nqga = 'latest'", f"upgrade_levels.qga: {NO_RELEASE}"),
        ("[qga]\nchannels = ['org.example.0']", f"qga.channels: {NOT_LIBVIRTS}"),
        (
            "[qga]\ndirect_channels = ['org.qemu.guest_agent.0']",
            "qga.direct_channels: expected no org.qemu.guest_agent.0, whose socket libvirt holds",
        ),
        ("[qga]\ndirect_channels = ['ovirt-guest-agent.0']", f"qga.direct_channels: {BOTH}"),
        ("[qga]\nabsent_seconds = 0", "qga.absent_seconds: expected `float` > 0.0"),
        ("[qga]\nresponsive_seconds = 1", "qga.responsive_seconds: unknown key"),
        *((f"[tools.current]\n{source} = 1.4", f"tools.current.{source}: {TOOLS_VERSION}") for source in Source),
        *(
            (f"[tools.current]\n{source} = '{text}'", f"tools.current.{source}: {TOOLS_VERSION}")
            for source in Source
            for text in ("", "1", "max", "1.4.0-proto", "1.4.0.7", " 1.4", "1.9999999999", "9" * 40)
        ),
        ("[tools.current]\nguest_tools = '1.4'", "tools.current.guest_tools: unknown key"),
        ("[tools]\ncurrent = '1.4'", "tools.current: expected `table`, got `str`"),
        ("[tools]\nread_guest_file = 'no'", "tools.read_guest_file: expected `bool`, got `str`"),
        ("[tools]\nread_guest_file = 0", "tools.read_guest_file: expected `bool`, got `int`"),
        ("[tools]\nversion = '1.4'", "tools.version: unknown key"),
        ("[paths]\nspool = 3", "paths.spool: expected an absolute path"),
        ("[bus]\nurl = 3", f"bus.url: expected {TRANSPORT_URL}"),
        ("[bus]\nadmin_url = true", f"bus.admin_url: expected {TRANSPORT_URL}"),
        ("[bus]\nadmin = 1", "bus.admin: expected `bool`, got `int`"),
        ("[bus]\ndirectory = 1", "bus.directory: expected an absolute path"),
        ("[bus]\nnotification_topics = 'a'", f"bus.notification_topics: {TOPICS}"),
        ("[bus]\noslo_messaging_rabbit = 1", "bus.oslo_messaging_rabbit: expected `table`, got `int`"),
        ("[bus]\nhosts = 1", "bus.hosts: unknown key"),
        ("[log]\nlevel = 3", "log.level: expected one of debug, info, warning, error"),
        # What is out of range.
        ("[libvirt]\nkeepalive_seconds = 0", "libvirt.keepalive_seconds: expected `int` >= 1"),
        ("[libvirt]\nkeepalive_seconds = 3601", "libvirt.keepalive_seconds: expected `int` <= 3600"),
        ("[libvirt]\nkeepalive_seconds = " + "9" * 40, "libvirt.keepalive_seconds: expected `int` <= 3600"),
        ("[ovirt]\nresponsive_seconds = 0", "ovirt.responsive_seconds: expected `float` > 0.0"),
        ("[ovirt]\nresponsive_seconds = -1", "ovirt.responsive_seconds: expected `float` > 0.0"),
        ("[ovirt]\nresponsive_seconds = nan", "ovirt.responsive_seconds: expected `float` > 0.0"),
        ("[ovirt]\nabsent_seconds = inf", "ovirt.absent_seconds: expected `float` <= 31536000.0"),
        ("[ovirt]\nchannels = ['']", "ovirt.channels[0]: expected `str` of length >= 1"),
        ("[paths]\nspool = 'run/spool'", "paths.spool: expected an absolute path"),
        ("[paths]\nspool = ''", "paths.spool: expected an absolute path"),
        ("[api]\nsocket = 'api.sock'", "api.socket: expected an absolute path"),
        ("[api]\nreadonly_socket = 1", "api.readonly_socket: expected an absolute path"),
        ("[api]\nsocket_group = ''", "api.socket_group: expected `str` of length >= 1"),
        ("[limits]\nconnections = 0", "limits.connections: expected `int` >= 1"),
        ("[limits]\nbody_bytes = 10", "limits.body_bytes: expected `int` >= 1024"),
        ("[limits]\nidle_seconds = 0", "limits.idle_seconds: expected `float` > 0.0"),
        ('[paths]\nspool = "/run/\\u0000"', "paths.spool: expected an absolute path"),
        ("[bus]\noutbox_events = 0", "bus.outbox_events: expected `int` >= 1"),
        ("[bus]\ndirectory = 'lib'", "bus.directory: expected an absolute path"),
        ("[bus]\nnotification_topics = []", f"bus.notification_topics: {TOPICS}"),
        ("[bus]\nnotification_topics = ['a', 'b.c']", f"bus.notification_topics[1]: {TOPICS}"),
        ("[log]\nlevel = 'loud'", "log.level: expected one of debug, info, warning, error"),
        (
            "[ovirt]\nchannels = ['a', 'org.qemu.guest_agent.0']",
            "ovirt.channels: expected no org.qemu.guest_agent.0, whose socket libvirt holds",
        ),
    ],
)
def test_one_line_names_file_key_and_expectation(text: str, complaint: str) -> None:
    assert refusal(text) == f"FILE: {complaint}"


class TestBus:
    def test_a_cap_that_is_the_fleets(self) -> None:
        levels = "[upgrade_levels]\novirt = 'auto'\nqga = 'auto'\n"
        configuration = parse(levels + "[bus]\nurl = 'rabbit://a:b@c/'")
        assert set(configuration.auto_dialects) == set(Dialect)
        assert (configuration.ovirt_maximum, str(configuration.qga_maximum)) == (4, "10.0")
        one = parse("[upgrade_levels]\novirt = 3\nqga = 'auto'\n[bus]\nurl = 'rabbit://a:b@c/'")
        assert (set(one.auto_dialects), one.ovirt_maximum) == ({Dialect.QGA}, 3)

    def test_without_a_bus_there_is_no_fleet(self) -> None:
        configuration = parse("[upgrade_levels]\novirt = 'auto'")
        assert (len(configuration.auto_dialects), configuration.ovirt_maximum) == (0, 4)

    @pytest.mark.parametrize(
        "url", ["", "rabbit", "rabbit:/a", "rabbit://a b@c/", "3://a@c/", "rabbit://" + "x" * 4096]
    )
    @pytest.mark.parametrize("key", ["url", "admin_url"])
    def test_what_is_no_transport_url(self, key: str, url: str) -> None:
        assert refusal(f"[bus]\n{key} = '{url}'") == f"FILE: bus.{key}: expected {TRANSPORT_URL}"

    @pytest.mark.parametrize(
        ("section", "complaint"),
        [
            ("", f"bus.url: expected, with admin = true, {TRANSPORT_URL}"),
            ("admin_url = 'rabbit://admin:SECRET@c/'", f"bus.url: expected, with admin = true, {TRANSPORT_URL}"),
            ("url = 'rabbit://host:SECRET@c/'", OWN_USER),
            *(
                (f"url = 'rabbit://host:SECRET@c/'\nadmin_url = '{url}'", OWN_USER)
                for url in (
                    "rabbit://host:SECRET@c/",
                    "rabbit://host:OTHERSECRET@d:5672/admin",
                    "rabbit://c/",
                    "rabbit://@c/",
                    "rabbit://:SECRET@c/",
                    "rabbit://h%6Fst:SECRET@c/",
                    "rabbit://admin:SECRET@a,host:SECRET@b/",
                    "rabbit://admin:SECRET@a,b/",
                    "rabbit://host:SECRET@[::1/",
                )
            ),
        ],
    )
    def test_administering_takes_a_user_of_its_own_and_no_password_is_printed(
        self, section: str, complaint: str
    ) -> None:
        line = refusal(f"[bus]\nadmin = true\n{section}")
        assert line == f"FILE: {complaint}"
        assert "SECRET" not in line

    @pytest.mark.parametrize("admin_url", ["rabbit://admin:x@c/", "rabbit://admin:x@[::1]:5672,admin:x@d/v"])
    def test_a_user_of_its_own(self, admin_url: str) -> None:
        text = f"[bus]\nadmin = true\nurl = 'rabbit://host:x@c/'\nadmin_url = '{admin_url}'"
        assert parse(text).bus.admin_url == admin_url
        assert parse("[bus]\nadmin = true\nurl = 'rabbit://c/'\nadmin_url = 'rabbit://admin:x@c/'").bus.admin

    def test_the_extra_has_to_be_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "oslo_messaging", None)
        assert refusal("[bus]\nurl = 'rabbit://host:SECRET@c/'") == (
            "FILE: bus.url: expected libvirt-sidecar[bus] to be installed (no module oslo_messaging)"
        )
        assert parse("[bus]\nadmin = false") == Configuration()

    def test_looking_for_it_imports_nothing(self) -> None:
        program = (
            "import sys; from sidecar.config import parse_configuration as parse; "
            "parse(b'[bus]\\nurl = \"rabbit://a@b/\"', 'FILE'); "
            "assert not [name for name in sys.modules if name.startswith(('oslo', 'eventlet'))]"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("key", ["libvirt.uri", "ovirt.channels", "upgrade_levels.ovirt", "paths.spool", "log.level"])
def test_the_key_is_named_wherever_it_stands(key: str) -> None:
    assert refusal(f"{key} = [[1]]").startswith(f"FILE: {key}")


@pytest.mark.parametrize(
    "text",
    [
        b"level =",
        b"[log\n",
        b"\xff\xfe[log]",
        b"[log]\nlevel = 'caf\xe9'",
        b"\xef\xbb\xbf[log]",
        b"\x00",
        b"[log]\n[log]",
        b"[log]\nlevel = 'info'\nlevel = 'info'",
        b"a = " + b"[" * 5000,
        '"\u0000\n'.encode(),
        "level = \u0663".encode(),
    ],
)
def test_what_is_no_toml(text: bytes) -> None:
    assert refusal(text).startswith("FILE: not TOML: ")


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=40)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(
        "{} = {}".format,
        st.sampled_from(["libvirt.uri", "ovirt.channels", "ovirt.absent_seconds", "log", "upgrade_levels.ovirt", "x"]),
        st.integers() | st.floats() | st.sampled_from(["{}", "[]", "''", "true", "{a=1}", "1979-05-27", "['']"]),
    ).map(str.encode)
)
def test_any_file_is_read_or_refused_in_one_line(text: bytes) -> None:
    try:
        parse_configuration(text, "FILE")
        complaint = "FILE: none"
    except ConfigurationError as error:
        complaint = str(error)
    assert complaint.startswith("FILE: ")
    assert complaint.isprintable()


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_bytes(EVERY_KEY)
    assert load_configuration(file) == parse_configuration(EVERY_KEY, "FILE")


def test_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.toml"
    file.write_text("colour = 1")
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(file)
    assert str(caught.value) == f"{file}: colour: unknown key"


def test_a_missing_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path}/none.toml: no such file"


@pytest.mark.parametrize("path", [".", "file/below"])
def test_an_unreadable_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r": cannot be read: (Is|Not) a directory$"):
        load_configuration(tmp_path / path)


def test_the_default_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar.config, "DEFAULT_PATH", tmp_path / "sidecar.toml")
    assert load_configuration(None) == Configuration()
    (tmp_path / "sidecar.toml").write_bytes(EVERY_KEY)
    assert load_configuration(None) == parse_configuration(EVERY_KEY, "FILE")
