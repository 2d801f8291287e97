"""What of an agent's messages is kept, from the bytes on the wire to the value that is shown."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.protocol.bad_input import BadInput, BadInputCode
from sidecar.protocol.fact_content import FACT_LIMIT_BYTES, FactContent
from sidecar.protocol.ovirt_facts import APPLICATIONS_LIMIT_BYTES, FACTS, read_fact
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from sidecar.protocol.ovirt_reader import Heartbeat, MessageReceived, OvirtReader
from tests.fakes import ovirt_agent
from tests.protocol.host_sessions import connected

MEMORY = {"mem_total": 2035000, "mem_free": 1500000, "swap_in": 0, "pageflt": "17"}
TOLD = {
    **{name: arguments for name, arguments in ovirt_agent.FACTS.items() if name != "guest-tools"},
    "heartbeat": {"free-ram": "1464", "memory-stat": MEMORY, "apiVersion": 4},
    "memory-stats": {"memory": MEMORY},
}
LISTS = {
    "applications": "applications",
    "network-interfaces": "interfaces",
    "disks-usage": "disks",
    "containers": "list",
}


def line(name: str, arguments: object) -> bytes:
    assert isinstance(arguments, dict)
    return json.dumps({"__name__": name, **arguments}).encode() + b"\n"


def padded(name: str, length: int) -> bytes:
    """A line of this many bytes but for its LF."""
    empty = line(name, {"x": ""})[:-1]
    return line(name, {"x": "y" * (length - len(empty))})


def taken(reader: OvirtReader) -> dict[str, object]:
    return {name: read_fact(content) for name, content in reader.take_facts().items()}


def test_which_messages_are_facts() -> None:
    """All that tell something, but for what goes on record already."""
    events = {name for name in GUEST_TO_HOST if name.startswith("session-")}
    assert FACTS.keys() == GUEST_TO_HOST.keys() - events - {"echo", "uninstalled", "completion", "guest-tools"}
    assert FACTS.keys() == TOLD.keys()


@pytest.mark.parametrize("name", FACTS)
def test_each_is_kept_as_it_was_told(name: str) -> None:
    reader = OvirtReader()
    reader.receive_data(line(name, TOLD[name]))
    assert taken(reader) == {name: TOLD[name]}
    assert reader.bad_input == {}


@pytest.mark.parametrize("name", sorted(GUEST_TO_HOST.keys() - FACTS.keys()))
def test_nothing_else_is(name: str) -> None:
    reader = OvirtReader()
    reader.receive_data(line(name, {"name": "x", "reply_id": "1", "installed": False, "updated": 1}))
    assert reader.bad_input == {}
    assert reader.take_facts() == {}


def test_the_newest_word_is_given_out_once() -> None:
    reader = OvirtReader()
    reader.receive_data(line("fqdn", {"fqdn": "a"}) + line("host-name", {"name": "b"}) + line("fqdn", {"fqdn": "c"}))
    reader.receive_data(line("host-name", {"name": "d"}))
    assert taken(reader) == {"fqdn": {"fqdn": "c"}, "host-name": {"name": "d"}}
    assert taken(reader) == {}


def test_a_session_passes_them_on() -> None:
    session = connected()
    session.receive_data(line("fqdn", {"fqdn": "a"}), 1.0)
    assert [read_fact(content) for content in session.take_facts().values()] == [{"fqdn": "a"}]
    assert session.take_facts() == {}


@pytest.mark.parametrize("name", sorted(FACTS.keys() - LISTS.keys()))
def test_what_is_too_large_is_complained_of_once_and_not_kept(name: str) -> None:
    reader = OvirtReader()
    reader.receive_data(padded(name, FACT_LIMIT_BYTES))
    assert [len(content.raw) for content in reader.take_facts().values()] == [FACT_LIMIT_BYTES]
    assert reader.bad_input == {}
    first, bad, *others = reader.receive_data(padded(name, FACT_LIMIT_BYTES + 1) * 2 + line("fqdn", {"fqdn": "a"}))
    event = Heartbeat(None) if name == "heartbeat" else MessageReceived(name)
    assert first == event  # the agent lives, and said so
    assert bad == BadInput(BadInputCode.BAD_MESSAGE, f"{name}: 65537 bytes are more than is kept")
    assert others == [event, MessageReceived("fqdn")]
    assert reader.bad_input == {BadInputCode.BAD_MESSAGE: 2}
    assert taken(reader) == {"fqdn": {"fqdn": "a"}}


@pytest.mark.parametrize(("name", "key"), LISTS.items())
def test_of_a_list_that_is_too_long_the_first_entries_are_kept(name: str, key: str) -> None:
    entries = [f"package-{number:06}-1.0" for number in range(40_000)]
    reader = OvirtReader()
    reader.receive_data(line(name, {key: entries, "mapping": {"serial": {"name": "vda"}}}))
    ((_, content),) = reader.take_facts().items()
    assert content.truncated
    assert len(content.raw) == (APPLICATIONS_LIMIT_BYTES if name == "applications" else FACT_LIMIT_BYTES)
    value = read_fact(content)
    assert isinstance(value, dict)
    assert value.keys() == {key}
    kept = value[key]
    assert kept == entries[: len(kept)]
    assert len(content.raw) - 100 < len(json.dumps(kept)) <= len(content.raw)
    assert reader.bad_input == {}


def test_an_agent_that_names_the_message_last() -> None:
    """Python 2 has no order of keys."""
    entries = [f"package-{number:06}-1.0" for number in range(40_000)]
    reader = OvirtReader()
    reader.receive_data(json.dumps({"applications": entries, "__name__": "applications"}).encode() + b"\n")
    value = taken(reader)["applications"]
    assert isinstance(value, dict)
    assert value["applications"][0] == "package-000000-1.0"


def test_applications_that_are_none_are_not_kept() -> None:
    reader = OvirtReader()
    reader.receive_data(line("applications", TOLD["applications"]) + line("applications", {"applications": [1]}))
    assert taken(reader) == {"applications": TOLD["applications"]}
    assert reader.bad_input == {BadInputCode.BAD_MESSAGE: 1}


HOSTILE = {
    "deep": b'{"__name__": "fqdn", "fqdn": ' + b"[" * 500 + b"]" * 500 + b"}",
    "huge-number": b'{"__name__": "fqdn", "fqdn": 1' + b"0" * 30 + b"}",
    "huge-float": b'{"__name__": "fqdn", "fqdn": 1e999}',
    "bad-utf8": b'{"__name__": "fqdn", "fqdn": "\xff"}',
    "many": b'{"__name__": "fqdn", "fqdn": [' + b"[]," * 20_000 + b"1]}",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE)
def test_what_nobody_can_read_costs_nothing_until_it_is_read(raw: bytes) -> None:
    reader = OvirtReader()
    assert reader.receive_data(raw + b"\n") == [MessageReceived("fqdn")]
    ((_, content),) = reader.take_facts().items()
    assert content == FactContent(raw)
    with pytest.raises(ValueError, match=r"JSON|deeper|64 bits|values"):
        read_fact(content)


def test_odd_but_harmless() -> None:
    reader = OvirtReader()
    for raw, value in (
        (b'{"__name__": "echo", "__name__": "fqdn", "fqdn": {"a": [null]}, "fqdn": 5}', {"fqdn": 5}),
        (
            b'{"__name__": "fqdn", "fqdn": "a\\u0000\\n", "\\u001b[31m": true}',
            {"fqdn": "a\ufffd\n", "\ufffd[31m": True},
        ),
        (b'{"__name__": "fqdn"}', {}),
    ):
        reader.receive_data(raw + b"\n")
        assert taken(reader) == {"fqdn": value}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FACTS)), st.dictionaries(st.text(max_size=12), JSON, max_size=5), st.booleans())
def test_whatever_was_told_is_kept_or_not_and_fits_a_document(name: str, told: dict[str, object], short: bool) -> None:
    reader = OvirtReader()
    reader.receive_data(
        json.dumps({**told, "__name__": name}, ensure_ascii=short).encode(errors="surrogatepass") + b"\n"
    )
    for content in reader.take_facts().values():
        try:
            value = read_fact(content)
        except ValueError:
            continue
        assert isinstance(value, dict)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
