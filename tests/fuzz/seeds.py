"""The first inputs: golden transcripts, records and domains, and what hand-written tests are about.

``python -m tests.fuzz.seeds FOLDER`` writes them, a folder a target. The corpus in the tree grew out of them in
campaigns and was minimised after that; they are here for another beginning, when a target's input has changed.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.protocol.qga_commands import FROZEN_COMMANDS, QGA_COMMANDS
from tests.fuzz.script import render_steps
from tests.fuzz.target import HOME, NAMES, load

PROTOCOL, RECORD = (HOME.parent / name / "golden" for name in ("protocol", "record"))

HOST_STEPS = (
    b"c",
    b"p0",
    b"w8",
    b"p1",
    b"p0",
    b"d0",
    b"c",
    b"m2",
    b"m0",
    b"m4",
    b"r",
    b"x1",
    b"x0",
    b"sx",
    b"d1",
    b"y",
)
AGENT_STEPS = (b"h0", b"w1", b"g", b"t3", b"w7", b"h1", b"h0", b"w8", b"w8", b"g", b"g")
QGA_STEPS = (b"a", b"w8", b"o0", b"a", b"f1", b"p1", b"p0", b"a", b"m2", b"m4", b"x01", b"r", b"d0", b"c")


def transcript_lines(who: str) -> Iterator[list[bytes]]:
    """What one end says in each golden transcript."""
    for file in sorted(PROTOCOL.glob("transcript-*.txt")):
        lines = file.read_text().splitlines()
        yield [line.partition(": ")[2].encode() + b"\n" for line in lines if line.startswith(f"{who}: ")]


def seed_framing() -> Iterator[bytes]:
    for lines in transcript_lines("host"):
        yield b"\x00\xff\x07\x20\n" + b"".join(lines)
    yield b"\x00\x04\x01\x02\x03\nabc\nabcd\nabcde\n\nab"


def seed_ovirt_host() -> Iterator[bytes]:
    for number, lines in enumerate(transcript_lines("guest")):
        yield render_steps(b"b" + b"%d04" % (4 - number), b"c", b"p0", *lines)
        yield render_steps(*(piece for pair in zip(lines, HOST_STEPS, strict=False) for piece in pair))
    for number in range(len(HOST_STEPS)):
        beats = (b'{"__name__": "heartbeat", "apiVersion": %d}\n' % version for version in (3, 0, 0, 9, 3))
        yield render_steps(b"c", b"p0", *beats, *HOST_STEPS[number:])


def seed_ovirt_agent() -> Iterator[bytes]:
    for number, lines in enumerate(transcript_lines("host")):
        yield render_steps(b"b%d" % number, b"h0", *lines, b"g")
        yield render_steps(*(piece for pair in zip(lines, AGENT_STEPS, strict=False) for piece in pair))
    yield render_steps(*AGENT_STEPS, b'{"__name__": "echo", "any": [1, null]}\n' * 6, b"g")


def guest_info(version: object, enabled: frozenset[str], names: int = 12) -> bytes:
    """Its result; a few of the commands are enough for a seed."""
    listed = [name for name in QGA_COMMANDS if name in FROZEN_COMMANDS or name.startswith("guest-get")][:names]
    commands = [{"name": name, "enabled": name in enabled, "success-response": True} for name in listed]
    return json.dumps({"version": version, "supported_commands": commands}).encode()


def reports() -> Iterator[bytes]:
    every = frozenset(QGA_COMMANDS)
    for version in ("7.2.22", "0.15.1", "102.10.0", "1.5.3-el7", "", None, "10.0.2 (Debian 1:10.0.2)"):
        yield guest_info(version, every)
    yield guest_info("7.2.22", FROZEN_COMMANDS)
    yield guest_info("8.2.0", frozenset())


def seed_qga_host() -> Iterator[bytes]:
    for number, report in enumerate(reports()):
        yield render_steps(b"b%d01" % (number % 5), b"p0", b"a", report, *QGA_STEPS[number:], b"a", report)


def seed_qga_wire() -> Iterator[bytes]:
    for report in reports():
        yield report
        yield b'{"return": ' + report + b', "id": "4f7c"}'
    for reply in ('"return": 4711', '"error": {"class": "CommandNotFound", "desc": "x has not been found"}'):
        yield f"{{{reply}}}".encode()
        yield f'{{{reply}, "id": "4f7c"}}'.encode()
    yield b'{"return": {}, "id": 1}'
    yield b'{"path": "/bin/sh", "arg": ["-c", "\\u00e4\\ud83d\\ude00"], "capture-output": true}'


def seed_facts() -> Iterator[bytes]:
    for lines in transcript_lines("guest"):
        for number, line in enumerate(lines[:24]):
            yield (40 + number).to_bytes(2) + line
    names = '"ovirt-guest-agent-common-1.0.16-2.el8", "a\\"b", "\\u0000", "libvirt-sidecar-0.1-1"'
    yield b"\x00\x60" + f'{{"applications": [{names}]}}'.encode()
    yield b'\x00\x0b["a", "b,]", {"c": [1, 2]}, [3]]'
    yield b'\x00\x11{"list": [{"id": "a"}, {"id": "b"}]}'
    tools = {"major": 1, "minor": 4, "micro": -1, "build": "proto-0.5", "installed": True, "updated": 3}
    yield b"\x00\x09" + json.dumps(tools).encode()


def seed_record() -> Iterator[bytes]:
    for file in sorted(RECORD.glob("agreement-*.xml")):
        text = file.read_bytes()
        yield text
        yield text.replace(b"<agreement", b'<agreement xmlns="urn:libvirt-sidecar:agreement:1"', 1)
    stranger = '<o:channel xmlns:o="urn:o" name="theirs"/><o:tools xmlns:o="urn:o"/>'
    yield f'<agreement arrivals="7"><channel name="ours"/>{stranger}</agreement>'.encode()
    yield b"\xff\xff" + bytes([2, 0, 1, 26, 0, 30, 11, 0, 5, 54, 13, 38, 8, 58, 16, 62, 17])
    yield b"\xff".join([b"", *(b"<&\"'>%d" % number for number in range(20))])


def seed_policy() -> Iterator[bytes]:
    offer = b'{"dialects": {"ovirt": {"maximum": 3}, "qga": {"maximum": "7.2"}}}'
    ovirt, qga, tools = (
        b'<p:require dialect="ovirt" min-version="3"/>',
        b'<p:require dialect="qga" min-version="8.0"/>',
        b'<p:require tools="true"/>',
    )
    for children in (ovirt, qga, tools, ovirt + qga + tools, b'<x:y xmlns:x="urn:x" a="b"/>', b"", b"<require/>"):
        yield children + b"\n" + offer
    yield b"\xff" + bytes([1, 2, 0, 6, 6, 0, 1, 2, 1, 6, 9, 0, 1, 10, 2, 0]) + b"\n" + offer
    yield ovirt * 2 + b'\n[upgrade_levels]\novirt = "ovirt-3.6"\nqga = "debian-12"\n'
    for wish in ('dialect="qga" min-version="\u00e4\u2028"', 'dialect="\u00e4" min-version="3"', 'tools="\u00fc"'):
        yield f"<p:require {wish}/>".encode() + b"\n" + offer
    yield qga + b'\n[upgrade_levels]\novirt = 5\nqga = "auto"\n'


def seed_domain_xml() -> Iterator[bytes]:
    for file in sorted(RECORD.glob("domain-*.input.xml")):
        yield file.read_bytes()
    record = (RECORD / "agreement-example.xml").read_text()
    inside = record.replace("<agreement", '<agreement xmlns="urn:libvirt-sidecar:agreement:1"', 1)
    policy = '<p:policy xmlns:p="urn:libvirt-sidecar:policy:1"><p:require tools="true"/></p:policy>'
    channel = (
        '<channel type="unix"><source mode="bind" path="/s"/><target type="virtio" name="ovirt-guest-agent.0" '
        'state="connected"/><alias name="channel0"/></channel>'
    )
    for metadata in (inside, policy, inside + policy, policy + policy):
        yield f"<domain><metadata>{metadata}</metadata><devices>{channel}</devices></domain>".encode()
    yield b"\xff" + bytes(
        [5, 9, 2, 0, 13, 6, 2, 10, 3, 0, 17, 2, 1, 14, 4, 18, 6, 0, 21, 14, 7, 0, 0, 0, 1, 53, 57, 42, 17]
    )
    yield f"<domain><devices>{channel}{channel.replace('connected', 'disconnected')}</devices></domain>".encode()


def seed_spool() -> Iterator[bytes]:
    notices = [
        f"libvirt-sidecar notice 1\n{operation}\n{sub}\n{name}\0".encode()
        for operation, sub, name in (("started", "begin", "vm1"), ("migrate", "begin", "a\nb"), ("release", "-", "ä"))
    ]
    yield render_steps(*notices, b"hello", b"libvirt-s", b"", notices[0][:-1], notices[0] * 2)
    yield render_steps(*(b"n%d\n\n" % number + notice for number, notice in enumerate(notices)), b"n\xfe\n\nx")
    yield render_steps(*(b"k%d" % number for number in range(4)), notices[0])
    yield render_steps(b"h#!/bin/sh\n# This file belongs to libvirt-sidecar: x\n", b"h", b"q/a'b\n$(id)", b"q")
    yield render_steps(b"libvirt-sidecar notice 1\nstarted\nbegin\n" + b"x" * 4060 + b"\0", notices[1])


def seed_requests() -> Iterator[bytes]:
    yield b'{"domain": "vm1", "message": "guest-exec", "arguments": {"path": "/bin/ls"}, "timeout_s": 10.5}'
    yield b'{"domain": "vm1", "state": "agreed", "timeout": 5, "channel": "org.qemu.guest_agent.0"}'
    dialects = {"ovirt": {"maximum": 3, "cap": 3, "supported": 4}, "qga": {"maximum": "7.2", "cap": "debian-12"}}
    uuid = "5c0f0000-0000-4000-8000-000000000001"
    offer = {"hostname": "beta", "host_uuid": uuid, "daemon": "0.1.0", "bridge": "1.0", "dialects": dialects}
    yield json.dumps(offer).encode()
    yield json.dumps({"domain": "vm1", "offer": offer}).encode()
    yield b'{"a": [1, 2.5, true, null, "\\u00e4"], "a": 1}'
    yield b'{"a": NaN}'
    yield b'["\\ud800", 1e999]'


def seed_xmlrpc() -> Iterator[bytes]:
    values = (
        *("<int>1</int>", "<i8>9007199254740993</i8>", "<double>2.5</double>", "<boolean>1</boolean>", "<nil/>"),
        *("<string>&lt;a&#13;</string>", "plain", "<base64>AAAA</base64>", "<bigdecimal>1.5</bigdecimal>"),
        *("<dateTime.iso8601>20261121T07:31:38</dateTime.iso8601>", "<array><data><value>x</value></data></array>"),
        "<struct><member><name>domain</name><value>vm1</value></member></struct>",
    )
    for value in values:
        parameters = f"<params><param><value>{value}</value></param></params>"
        yield f"<?xml version='1.0'?><methodCall><methodName>show</methodName>{parameters}</methodCall>".encode()


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {name: globals()[f"seed_{name}"] for name in NAMES}


def write(folder: Path) -> None:
    """Each input into its target's folder, under the name that libFuzzer would give it."""
    for name, seeds in SEEDS.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for data in seeds():
            load(name).check(data)
            (place / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
