"""The helper, the very file that the hook runs, under /usr/bin/python3 as the hook runs it."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

import sidecar.cli.admit
from sidecar.adapters.hook_setup import HELPER_COMMAND
from sidecar.cli.admit import ADMITTED, FAULT, FILE_LIMIT_BYTES, REFUSED, XML_LIMIT_BYTES, parse_caps, parse_offer
from sidecar.config import Configuration, parse_configuration
from sidecar.daemon import describe_offer
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Caps
from sidecar.errors import ConfigurationError
from sidecar.protocol.qga_commands import QGA_MAXIMUM
from sidecar.protocol.releases import Release
from sidecar.protocol.versions import OVIRT_MAXIMUM
from sidecar.record.agreement import NAMESPACE as AGREEMENT
from sidecar.record.policy import NAMESPACE, Offer

pytestmark = pytest.mark.thorough

FILE = str(Path(sidecar.cli.admit.__file__).resolve())
CAPPED = b"[upgrade_levels]\novirt = 2\nqga = 'debian-12'\n"
AUTO = b'[upgrade_levels]\novirt = "auto"\nqga = "auto"\n'
# A machine that is busy is none that hangs.
LIMIT_S = 20


def domain(requirements: str, more: str = "") -> bytes:
    policy = f'<p:policy xmlns:p="{NAMESPACE}">{requirements}</p:policy>'
    return f"<domain><name>vm1</name><metadata>{policy}{more}</metadata></domain>".encode()


def needs(version: int) -> bytes:
    return domain(f'<p:require dialect="ovirt" min-version="{version}"/>')


def offer_of(configuration: bytes) -> str:
    identity = HostIdentity("beta", "5c0f")
    return json.dumps(asdict(describe_offer(parse_configuration(configuration, "test"), identity, Caps())))


def run(
    xml: bytes, place: Path, name: str = "vm1", options: tuple[str, ...] = HELPER_COMMAND[1:]
) -> "subprocess.CompletedProcess[bytes]":
    arguments = [str(place / "host.json"), str(place / "sidecar.toml"), name]
    return subprocess.run(
        [HELPER_COMMAND[0], *options, FILE, *arguments],
        input=xml,
        capture_output=True,
        cwd="/",
        env={},
        timeout=LIMIT_S,
        check=False,
    )


def verdict(xml: bytes, place: Path) -> int:
    done = run(xml, place)
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == (done.returncode != ADMITTED)
    assert done.stdout.decode().replace("\n", "").isprintable()
    return done.returncode


class TestVerdict:
    @pytest.mark.parametrize("options", [HELPER_COMMAND[1:], ("-I",)])
    def test_refuses_with_one_line(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        (tmp_path / "host.json").write_text(offer_of(CAPPED))
        done = run(needs(3), tmp_path, options=options)
        assert (done.returncode, done.stderr) == (REFUSED, b"")
        assert done.stdout == (
            b'domain \'vm1\' is refused: its policy requires dialect="ovirt" min-version="3", '
            b"and this host offers ovirt up to 2, qga up to 7.2\n"
        )

    @pytest.mark.parametrize(
        ("requirement", "code"),
        [
            ('dialect="ovirt" min-version="2"', ADMITTED),
            ('dialect="ovirt" min-version="3"', REFUSED),
            ('dialect="qga" min-version="7.2"', ADMITTED),
            ('dialect="qga" min-version="8.0"', REFUSED),
            ('tools="true"', REFUSED),
            ('tools="false"', ADMITTED),
            ('tools="maybe"', FAULT),
        ],
    )
    def test_each_requirement(self, tmp_path: Path, requirement: str, code: int) -> None:
        (tmp_path / "host.json").write_text(offer_of(CAPPED))
        assert verdict(domain(f"<p:require {requirement}/>"), tmp_path) == code

    def test_tools_in_the_record_that_came_along(self, tmp_path: Path) -> None:
        record = f'<a:agreement xmlns:a="{AGREEMENT}"><a:tools source="qga" version="7.2"/></a:agreement>'
        assert verdict(domain('<p:require tools="true"/>', record), tmp_path) == ADMITTED

    def test_no_policy(self, tmp_path: Path) -> None:
        assert verdict(b"<domain/>", tmp_path) == ADMITTED

    @pytest.mark.parametrize("name", ["-h", "--version", "", "a\nb", "\udcff", "x" * 9000])
    def test_any_name(self, tmp_path: Path, name: str) -> None:
        done = run(needs(99), tmp_path, name)
        assert done.returncode == REFUSED
        (line,) = done.stdout.decode("ascii").splitlines()
        assert line.isprintable()


class TestOffer:
    def test_host_json_goes_first(self, tmp_path: Path) -> None:
        (tmp_path / "host.json").write_text(offer_of(CAPPED))
        (tmp_path / "sidecar.toml").write_text("[upgrade_levels]\novirt = 4\n")
        assert verdict(needs(3), tmp_path) == REFUSED

    def test_then_the_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "sidecar.toml").write_bytes(CAPPED)
        assert verdict(needs(2), tmp_path) == ADMITTED
        assert verdict(needs(3), tmp_path) == REFUSED

    def test_then_the_defaults(self, tmp_path: Path) -> None:
        assert verdict(needs(OVIRT_MAXIMUM), tmp_path) == ADMITTED
        assert verdict(needs(OVIRT_MAXIMUM + 1), tmp_path) == REFUSED

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "[]",
            "null",
            '{"dialects": 3}',
            '{"dialects": {"ovirt": {"maximum": "4"}, "qga": {"maximum": "7.2"}}}',
            '{"dialects": {"ovirt": {"maximum": true}, "qga": {"maximum": "7.2"}}}',
            '{"dialects": {"ovirt": {"maximum": -1}, "qga": {"maximum": "7.2"}}}',
            '{"dialects": {"ovirt": {"maximum": 4}, "qga": {"maximum": 7.2}}}',
            '{"dialects": {"ovirt": {"maximum": 4}, "qga": {"maximum": "new"}}}',
            '{"dialects": {"ovirt": {"maximum": 4}}}',
            '{"dialects": {"ovirt": 4, "qga": "7.2"}}',
            "[" * 100_000,
            "\xff",
            " " * (FILE_LIMIT_BYTES + 1),
        ],
    )
    def test_a_broken_host_json_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "host.json").write_bytes(text.encode("latin-1"))
        (tmp_path / "sidecar.toml").write_bytes(CAPPED)
        assert verdict(needs(3), tmp_path) == REFUSED
        assert verdict(needs(2), tmp_path) == ADMITTED

    @pytest.mark.parametrize(
        "text",
        [
            b"no toml",
            b"[upgrade_levels]\novirt = 'none such'",
            b"[upgrade_levels]\novirt = true",
            b"[upgrade_levels]\nqga = 7.2",
            b"[upgrade_levels]\nqga = []",
            b"upgrade_levels = 3",
            b"[[upgrade_levels]]",
            b"\xff",
            b"a = " + b"[" * 50_000,
            b" " * (FILE_LIMIT_BYTES + 1),
        ],
    )
    def test_a_broken_configuration_is_a_fault(self, tmp_path: Path, text: bytes) -> None:
        (tmp_path / "sidecar.toml").write_bytes(text)
        assert verdict(needs(99), tmp_path) == FAULT

    def test_a_configuration_that_cannot_be_read_is_a_fault(self, tmp_path: Path) -> None:
        (tmp_path / "sidecar.toml").mkdir()
        assert verdict(needs(99), tmp_path) == FAULT

    @pytest.mark.parametrize(
        "text", [b"", CAPPED, b"[upgrade_levels]\novirt = 0\nqga = 0\n", AUTO, b"[log]\nlevel = 'info'"]
    )
    def test_offer_and_configuration_say_the_same_as_the_daemon(self, text: bytes) -> None:
        configuration = parse_configuration(text, "test")
        expected = Offer(configuration.ovirt_maximum, configuration.qga_maximum)
        assert parse_caps(text) == expected
        assert parse_offer(offer_of(text).encode()) == expected

    def test_the_defaults_are_the_daemons(self) -> None:
        default = Configuration()
        assert parse_caps(b"") == Offer(default.ovirt_maximum, default.qga_maximum) == Offer(OVIRT_MAXIMUM, QGA_MAXIMUM)

    def test_errors_are_typed(self) -> None:
        with pytest.raises(ValueError, match="no offer"):
            parse_offer(b"{}")
        with pytest.raises(ConfigurationError):
            parse_caps(b"[upgrade_levels]\nqga = 'x'")
        assert parse_caps(b"[upgrade_levels]\nqga = '5.2'").qga == Release(5, 2)


class TestFaults:
    @pytest.mark.parametrize(
        "xml",
        [
            b"",
            b"no xml",
            needs(99)[:-1],
            b"<!DOCTYPE d [<!ENTITY a 'b'>]>" + needs(99),
            needs(99) + b" " * XML_LIMIT_BYTES,
            b"<a>" * 50_000,
            b"\xff" + needs(99),
            bytes(range(256)),
            needs(99).decode().encode("utf-16"),
        ],
        ids=["empty", "no-xml", "cut", "doctype", "too-large", "deep", "not-utf-8", "bytes", "utf-16"],
    )
    def test_bad_xml(self, tmp_path: Path, xml: bytes) -> None:
        assert verdict(xml, tmp_path) == FAULT

    @pytest.mark.parametrize("count", [0, 1, 2, 4])
    def test_other_arguments(self, count: int) -> None:
        command = [*HELPER_COMMAND, FILE, *["/nowhere"] * count]
        done = subprocess.run(command, input=needs(99), capture_output=True, timeout=LIMIT_S, check=False)
        assert done.returncode == FAULT
        assert b"TypeError" in done.stdout

    @pytest.mark.parametrize("closed", ["<&-", ">/dev/full"])
    def test_streams_that_do_not_work_refuse_nothing(self, closed: str) -> None:
        command = ["/bin/sh", "-c", f'exec "$@" {closed} 2>&1', "sh", *HELPER_COMMAND, FILE, "/x", "/x", "vm1"]
        done = subprocess.run(command, input=needs(99), capture_output=True, timeout=LIMIT_S, check=False)
        assert done.returncode not in (ADMITTED, REFUSED)

    def test_deep_xml_is_judged_or_a_fault_but_never_a_crash(self, tmp_path: Path) -> None:
        deep = "<o>" * 100_000 + "</o>" * 100_000
        assert verdict(domain('<p:require dialect="ovirt" min-version="99"/>', deep), tmp_path) in (REFUSED, FAULT)
