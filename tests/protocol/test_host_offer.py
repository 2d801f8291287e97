"""What another host says that it offers."""

import json
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.api.views import DialectOffer, HostView
from sidecar.protocol.host_offer import HostOffer, Terms, is_hostname
from sidecar.protocol.releases import Release
from tests.protocol.offers import describe_offer, make_offer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def refusal(document: object) -> str:
    with pytest.raises(ValueError, match=r"^no host's offer: ") as caught:
        HostOffer.parse(document)
    assert str(caught.value).isprintable()
    return str(caught.value)


def edited(path: str, value: object) -> dict[str, Any]:
    """A good document with one value replaced, or taken away where it is `...`."""
    document: dict[str, Any] = describe_offer(supported=(4, "10.0"))
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_what_a_daemon_shows_is_read() -> None:
    dialects = {"ovirt": DialectOffer(3, "auto", 4), "qga": DialectOffer("7.2", "debian-12", "7.2")}
    view = HostView("beta.example.org", str(UUID(int=7)), "0.2.0", "1.3", dialects, {"ovirt": {"ovirt-4.5": 3}})
    offer = HostOffer.parse(asdict(view))
    assert offer == HostOffer(
        "beta.example.org",
        str(UUID(int=7)),
        "0.2.0",
        "1.3",
        Terms(3, "auto", 4),
        Terms(Release(7, 2), "debian-12", Release(7, 2)),
    )
    assert offer.dialects == dialects


def test_there_and_back() -> None:
    offer = HostOffer.parse(describe_offer(supported=(4, "10.0")))
    assert HostOffer.parse(json.loads(json.dumps(offer.document))) == offer


def test_a_daemon_that_does_not_tell_what_it_supports_supports_what_it_offers() -> None:
    offer = HostOffer.parse(describe_offer(ovirt=2, qga="5.2"))
    assert (offer.ovirt.supported, offer.qga.supported) == (2, Release(5, 2))
    assert HostOffer.parse(describe_offer(ovirt=2, qga="5.2", supported=(None, None))) == offer


def test_keys_of_a_newer_daemon_are_ignored() -> None:
    document = describe_offer()
    document["newer"] = document["dialects"]["newer"] = {"x": []}
    assert HostOffer.parse(document) == HostOffer.parse(describe_offer())


def test_a_host_uuid_is_the_same_in_any_case() -> None:
    upper = describe_offer(uuid="9A000000-0000-4000-8000-00000000000C")
    assert HostOffer.parse(upper) == HostOffer.parse(describe_offer())


@pytest.mark.parametrize("name", ["a", "a" * 255, "host-1.example.org", "A_b"])
def test_a_hostname(name: str) -> None:
    assert is_hostname(name)
    assert HostOffer.parse(describe_offer(name)).hostname == name


@pytest.mark.parametrize("name", ["", "a" * 256, "a b", "a/b", "a\n", "\x1b[31m", "h\u00f6st", "a\u202eb", "\x7f"])
def test_what_is_no_hostname(name: str) -> None:
    assert not is_hostname(name)
    refusal(describe_offer(name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *((key, ...) for key in ("hostname", "host_uuid", "daemon", "bridge", "dialects", "dialects.qga")),
        *((key, 7) for key in ("hostname", "host_uuid", "daemon", "bridge", "dialects", "dialects.ovirt")),
        ("host_uuid", "5c0f"),
        ("daemon", "0.1\n"),
        ("daemon", "x" * 65),
        ("daemon", ""),
        ("bridge", "1"),
        ("bridge", "1.x"),
        ("dialects.ovirt.maximum", "4"),
        ("dialects.ovirt.maximum", True),
        ("dialects.ovirt.maximum", -1),
        ("dialects.ovirt.maximum", 2**31),
        ("dialects.ovirt.maximum", 3.0),
        ("dialects.ovirt.maximum", 10**400),
        ("dialects.ovirt.cap", None),
        ("dialects.ovirt.cap", "x" * 65),
        ("dialects.ovirt.supported", "max"),
        ("dialects.ovirt.supported", 3),
        ("dialects.qga.maximum", 7),
        ("dialects.qga.maximum", "7"),
        ("dialects.qga.maximum", "7.2\n"),
        ("dialects.qga.supported", "9.9"),
        ("dialects.qga.supported", []),
    ],
)
def test_what_is_no_offer(path: str, value: object) -> None:
    refusal(edited(path, value))


@given(JSON)
def test_anything_is_refused_in_one_line(document: object) -> None:
    refusal(document)


@given(
    st.sampled_from(
        ["hostname", "host_uuid", "daemon", "bridge", "dialects.ovirt", "dialects.qga.maximum", "dialects.ovirt.cap"]
    ),
    JSON,
)
def test_anything_in_a_good_one_is_read_or_refused_in_one_line(path: str, value: object) -> None:
    document = edited(path, value)
    try:
        HostOffer.parse(document)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017


def test_offers_are_equal_by_what_they_say() -> None:
    assert make_offer() == make_offer()
    assert make_offer() != replace(make_offer(), daemon="0.2.0")
