"""Hosts' offers, as documents and as values."""

from typing import Any

from sidecar.protocol.host_offer import HostOffer


def describe_offer(
    hostname: str = "gamma",
    ovirt: object = 4,
    qga: object = "10.0",
    *,
    cap: object = "max",
    supported: tuple[object, object] | None = None,
    uuid: str = "9a000000-0000-4000-8000-00000000000c",
) -> dict[str, Any]:
    dialects: dict[str, dict[str, object]] = {
        "ovirt": {"maximum": ovirt, "cap": cap},
        "qga": {"maximum": qga, "cap": cap},
    }
    if supported is not None:
        dialects["ovirt"]["supported"], dialects["qga"]["supported"] = supported
    return {
        "hostname": hostname,
        "host_uuid": uuid,
        "daemon": "0.1.0",
        "bridge": "1.3",
        "dialects": dialects,
        "aliases": {"ovirt": {}, "qga": {}},
    }


def make_offer(hostname: str = "gamma", ovirt: int = 4, qga: str = "10.0") -> HostOffer:
    return HostOffer.parse(describe_offer(hostname, ovirt, qga))
