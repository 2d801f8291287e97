"""Answers of a daemon, as JSON documents."""

from typing import Any

from tests.client.fake_daemon import Answer, Call, Reply, problem, reply

HOST: dict[str, Any] = {
    "hostname": "beta",
    "host_uuid": "5c0f",
    "daemon": "0.5.0",
    "bridge": "1.2",
    "dialects": {"ovirt": {"maximum": 4, "cap": "max"}, "qga": {"maximum": "10.0", "cap": "debian-12"}},
    "aliases": {"ovirt": {"ovirt-4.4": 3}, "qga": {"debian-12": "7.2"}},
}
OVIRT: dict[str, Any] = {
    "name": "ovirt-guest-agent.0",
    "dialect": "ovirt",
    "state": "agreed",
    "version": "3",
    "guest": "3",
    "host": "4",
    "since": "2026-11-21T07:31:38.489Z",
    "reason": None,
}
QGA = OVIRT | {"name": "org.qemu.guest_agent.0", "dialect": "qga", "state": "lost", "reason": "port-closed"}
DOMAIN: dict[str, Any] = {
    "name": "vm1",
    "uuid": "0000-1",
    "activity": "running",
    "host": "beta",
    "host_uuid": "5c0f",
    "run": "9d1c",
    "arrival": "migration",
    "arrivals": 2,
    "arrived": "2026-11-21T07:31:38.440Z",
    "recorded": True,
    "channels": [OVIRT, QGA],
    "tools": {
        "source": "guest-tools",
        "version": "1.4.0-12",
        "upgradable": "false",
        "up_to_date": "true",
        "state": "current",
    },
}
BARE = DOMAIN | {"name": "vm2", "channels": [], "tools": None}
GUEST: dict[str, Any] = {
    "name": "vm1",
    "uuid": "0000-1",
    "facts": [
        {
            "name": "host-name",
            "channel": "ovirt-guest-agent.0",
            "dialect": "ovirt",
            "received": "2026-11-21T07:31:38.440Z",
            "age_seconds": 12.3,
            "truncated": False,
            "value": {"name": "guest.example"},
        },
        {
            "name": "applications",
            "channel": "ovirt-guest-agent.0",
            "dialect": "ovirt",
            "received": "2026-11-21T07:31:38.440Z",
            "age_seconds": 7200.0,
            "truncated": True,
            "value": ["kernel", "bash"],
        },
    ],
}
ALLOWED: dict[str, Any] = {
    "message": "lock-screen",
    "dialect": "ovirt",
    "since": "0",
    "purpose": "locks the screen",
    "allowed": True,
    "channel": "ovirt-guest-agent.0",
    "code": None,
    "why": None,
    "required": None,
    "agreed": "3",
    "reason": None,
}
FORBIDDEN = ALLOWED | {
    "message": "guest-ping",
    "allowed": False,
    "channel": None,
    "code": "not-agreed",
    "why": "the channel is lost",
    "reason": "port-closed",
}
SENT: dict[str, Any] = {"message": "guest-ping", "channel": "org.qemu.guest_agent.0", "reply": {"answer": [1, None]}}
LOST: dict[str, Any] = {"message": "hibernate", "direction": "host-to-guest", "since": "2", "used": True}
FORECAST: dict[str, Any] = {
    "name": "vm1",
    "uuid": "0000-1",
    "destination": "gamma",
    "nothing_lost": False,
    "refusal": None,
    "channels": [
        {
            "name": "ovirt-guest-agent.0",
            "dialect": "ovirt",
            "state": "agreed",
            "agreed": "3",
            "there": "1",
            "lost": [LOST],
        }
    ],
}
FINDING: dict[str, Any] = {
    "code": "port-closed",
    "domain": "vm1",
    "channel": "org.qemu.guest_agent.0",
    "problem": "nobody listens in the guest",
    "advice": "start the agent:\nsystemctl start qemu-guest-agent",
}
DIAGNOSIS: dict[str, Any] = {"healthy": False, "checked": ["hook", "libvirt"], "findings": [FINDING]}
OFFER: dict[str, Any] = HOST | {"dialects": {name: row | {"supported": None} for name, row in HOST["dialects"].items()}}
OLDEST: dict[str, Any] = {"version": "3", "domain": "vm1", "since": "2026-11-21T07:31:38.489Z"}
SUMMARY: dict[str, Any] = {"host": OFFER, "guests": 2, "oldest": {"ovirt": OLDEST}}
HERE: dict[str, Any] = {
    "hostname": "beta",
    "host_uuid": "5c0f",
    "daemon": "0.5.0",
    "bridge": "1.3",
    "dialects": {
        "ovirt": {"maximum": 3, "cap": "auto", "supported": 4},
        "qga": {"maximum": "10.0", "cap": "debian-12", "supported": "10.0"},
    },
    "answered": True,
    "last_seen": "2026-11-21T07:31:38.440Z",
    "guests": 2,
    "oldest": {"ovirt": OLDEST, "qga": OLDEST | {"version": "7.2", "domain": "vm2"}},
}
SILENT = HERE | {
    "hostname": "gamma",
    "host_uuid": "77aa",
    "bridge": "1.2",
    "answered": False,
    "last_seen": "2026-11-21T04:31:38.440Z",
    "guests": None,
    "oldest": {},
}
CAP: dict[str, Any] = {
    "lowest": 3,
    "held_by": "gamma",
    "maximum": 3,
    "auto": True,
    "raise_at": "2026-11-21T08:31:38.440Z",
}
FLEET: dict[str, Any] = {
    "complete": False,
    "hosts": [HERE, SILENT],
    "caps": {"ovirt": CAP, "qga": CAP | {"lowest": "7.2", "maximum": "10.0", "auto": False, "raise_at": None}},
    "problem": None,
}
EVACUATION: dict[str, Any] = {
    "host": "beta",
    "guests": [
        {"name": "vm1", "uuid": "0000-1", "keeps": ["alpha", "delta"], "losing": []},
        {
            "name": "vm2",
            "uuid": "0000-2",
            "keeps": [],
            "losing": [
                {"hosts": ["alpha"], "refusal": None, "channels": FORECAST["channels"]},
                {"hosts": ["delta"], "refusal": "vm2: ovirt 3 is required", "channels": []},
            ],
        },
    ],
    "unanswered": ["gamma"],
}
VERSION: dict[str, Any] = {"version": "1.1", "served": "1.2", "allowed": True, "why": None}
EVENT: dict[str, Any] = {
    "id": "a-1",
    "time": "2026-11-21T07:31:38.440Z",
    "type": "channel",
    "domain": "vm1",
    "uuid": "0000-1",
    "channel": OVIRT,
}

ANSWERS: dict[str, Any] = {
    "GET /v1/host": HOST,
    "GET /v1/can-send-version?version=1.1": VERSION,
    "GET /v1/domains": [DOMAIN, BARE],
    "GET /v1/domains/vm1": DOMAIN,
    "GET /v1/domains/vm1/guest": GUEST,
    "GET /v1/domains/vm1/messages": [ALLOWED, FORBIDDEN],
    "GET /v1/domains/vm1/messages?channel=c": [ALLOWED],
    "GET /v1/domains/vm1/messages/lock-screen": ALLOWED,
    "GET /v1/domains/vm1/messages/guest-ping": FORBIDDEN,
    "POST /v1/domains/vm1/messages/guest-ping": SENT,
    "POST /v1/domains/vm1/messages/lock-screen": SENT | {"message": "lock-screen", "reply": None},
    "POST /v1/domains/vm1/renegotiate": DOMAIN,
    "GET /v1/domains/vm1/wait?for=agreed&timeout=60.0": DOMAIN,
    "GET /v1/domains/vm1/wait?for=lost&timeout=5.0&channel=c": DOMAIN,
    "POST /v1/domains/vm1/preflight": FORECAST,
    "GET /v1/domains/vm1/preflight/gamma?timeout=5.0": FORECAST,
    "GET /v1/domains/vm1/preflight/gamma": FORECAST,
    "GET /v1/summary": SUMMARY,
    "GET /v1/fleet?timeout=5.0": FLEET,
    "POST /v1/fleet/gamma/forget": {"hostname": "gamma"},
    "GET /v1/fleet/beta/preflight?timeout=5.0": EVACUATION,
    "GET /v1/doctor": DIAGNOSIS | {"healthy": True, "findings": []},
    "GET /v1/domains/vm1/doctor": DIAGNOSIS,
}


def answer_well(call: Call) -> Reply:
    """As a healthy daemon with one guest does."""
    document = ANSWERS.get(call.line)
    return problem("domain-not-found", 404, "no such domain") if document is None else reply(document)


def answer_always(document: Any, **options: Any) -> Answer:
    """Whatever is asked."""
    return lambda call: reply(document, **options)
