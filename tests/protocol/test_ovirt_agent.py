"""The guest's own agent: its version machine, the gate of everything it says, and hosts that misbehave."""

from itertools import pairwise

import pytest

from sidecar.protocol.bad_input import BadInput, BadInputCode
from sidecar.protocol.ovirt_agent import (
    FOLLOW_UP_S,
    QUEUE_LIMIT,
    REFRESH_SET,
    UNTOLD_LAST_S,
    UNTOLD_S,
    RefreshReceived,
    VersionChanged,
)
from sidecar.protocol.versions import OFFER_LIMIT
from tests.fakes.ovirt_agent import FACTS
from tests.fakes.ovirt_agent import REFRESH_SET as ORIGINAL_SET
from tests.protocol.agent_sessions import BEAT_S, line, met, names, new_agent, offers, said, written

# Written out again: what refresh sends at each version, beside session-startup.
AT_ZERO = (
    "active-user",
    "applications",
    "host-name",
    "os-version",
    "network-interfaces",
    "disks-usage",
    "fqdn",
)
SINCE = {"timezone": 2, "os-info": 2, "containers": 3, "guest-tools": 4}
GOOD = line("echo", after=1)


def expected_set(version: int) -> list[str]:
    return ["session-startup", *(n for n in ORIGINAL_SET if n in AT_ZERO or SINCE.get(n, 9) <= version)]


def test_the_first_heartbeat_says_zero_and_the_next_follows_at_once() -> None:
    agent = new_agent()
    assert agent.deadline == float("inf")
    agent.host_came(10.0)
    agent.tick(10.0)
    first = said(agent)
    assert offers(first) == [0]
    assert agent.deadline == 10.0 + FOLLOW_UP_S <= 10.1
    agent.tick(agent.deadline)
    assert offers(said(agent)) == [4]
    assert agent.deadline == 10.0 + FOLLOW_UP_S + BEAT_S
    agent.tick(agent.deadline - 0.001)
    assert said(agent) == []


def test_it_starts_at_zero_with_what_zero_allows() -> None:
    agent = new_agent()
    agent.host_came(0.0)
    agent.tick(0.0)
    assert agent.version == 0
    assert names(agent) == ["heartbeat", *expected_set(0)]


def test_a_heartbeat_carries_the_memory_as_it_was_looked_up() -> None:
    agent = met()
    agent.keep("heartbeat", {"free-ram": "7", "memory-stat": {"mem_total": 1}})
    agent.tick(20.0)
    assert said(agent) == [{"__name__": "heartbeat", "free-ram": "7", "memory-stat": {"mem_total": 1}, "apiVersion": 4}]


def test_no_heartbeat_goes_before_the_memory_was_looked_up() -> None:
    agent = new_agent(facts=False)
    agent.host_came(0.0)
    agent.tick(0.0)
    assert names(agent) == ["session-startup"]
    agent.keep("heartbeat", FACTS["heartbeat"])
    agent.tick(5.0)
    assert offers(said(agent)) == [0]


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("maximum", range(5))
def test_api_version_is_clamped_and_everything_sent_again(maximum: int, version: int) -> None:
    agent = met(maximum)
    common = min(version, maximum)
    events = agent.receive_data(line("api-version", apiVersion=version), 2.0)
    assert agent.version == common
    assert events == ([VersionChanged(common, 0)] if common else [])
    assert names(agent) == (expected_set(common) if common else [])
    assert agent.receive_data(line("api-version", apiVersion=version), 3.0) == []
    assert said(agent) == []


@pytest.mark.parametrize("value", [5, 99, OFFER_LIMIT])
def test_a_number_above_our_maximum_is_our_maximum(value: int) -> None:
    agent = met()
    agent.receive_data(line("api-version", apiVersion=value), 2.0)
    assert agent.version == 4


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "-5",
        str(OFFER_LIMIT + 1),
        "1" + 400 * "0",
        "null",
        '"3"',
        '" 3 "',
        '"3.0"',
        '"x"',
        "2.9",
        "3.0",
        "true",
        "false",
        "[]",
        "{}",
        "NaN",
        "Infinity",
    ],
)
@pytest.mark.parametrize("version", [0, 3])
def test_what_is_no_version_is_refused_and_never_mutes_it(value: str, version: int) -> None:
    agent = met(version=version)
    bad = b'{"__name__": "api-version", "apiVersion": ' + value.encode() + b"}\n"
    events = agent.receive_data(bad + GOOD, 2.0)
    assert [event.code for event in events if isinstance(event, BadInput)] == [BadInputCode.BAD_VERSION]
    assert agent.version == version
    agent.tick(30.0)
    assert offers(said(agent)) == [4]


def test_api_version_without_a_number_is_refused() -> None:
    agent = met(version=2)
    (event,) = agent.receive_data(line("api-version"), 2.0)
    assert isinstance(event, BadInput)
    assert "2 stays in force" in event.detail
    assert agent.version == 2


def test_api_version_zero_is_taken() -> None:
    agent = met(version=3)
    assert agent.receive_data(line("api-version", apiVersion=0), 2.0) == [VersionChanged(0, 3)]
    assert names(agent) == expected_set(0)


@pytest.mark.parametrize("version", range(5))
def test_refresh_without_a_version_comes_from_a_host_without_versions(version: int) -> None:
    agent = met(version=version)
    events = agent.receive_data(line("refresh"), 2.0)
    assert agent.version == 0
    assert events == [*([VersionChanged(0, version)] if version else []), RefreshReceived()]
    assert names(agent) == expected_set(0)


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("value", [0, 1, 4, -1, "x", None])
def test_refresh_with_a_version_keeps_ours_and_brings_a_heartbeat_at_once(version: int, value: object) -> None:
    agent = met(version=version)
    assert agent.receive_data(line("refresh", apiVersion=value), 2.0) == [RefreshReceived()]
    assert agent.version == version
    answer = said(agent)
    assert offers(answer[:1]) == [4]
    assert [message["__name__"] for message in answer[1:]] == expected_set(version)
    assert agent.deadline == 2.0 + BEAT_S


def test_a_refresh_before_the_first_heartbeat_brings_zero_and_then_the_offer() -> None:
    agent = new_agent(facts=False)
    agent.host_came(0.0)
    agent.tick(0.0)
    said(agent)
    agent.keep("heartbeat", FACTS["heartbeat"])
    agent.receive_data(line("refresh", apiVersion=4), 1.0)
    assert offers(said(agent)) == [0]
    assert agent.deadline <= 1.1
    agent.tick(agent.deadline)
    assert offers(said(agent)) == [4]


@pytest.mark.parametrize("maximum", range(4))
def test_an_agent_as_old_as_below_4_waits_for_its_time(maximum: int) -> None:
    agent = met(maximum)
    agent.receive_data(line("refresh", apiVersion=4), 2.0)
    assert "heartbeat" not in names(agent)


def test_a_host_that_tells_no_version_is_reminded_ever_more_seldom() -> None:
    agent = met(version=3)
    agent.receive_data(line("refresh", apiVersion=3), 10.0)
    said(agent)
    reminded = {}
    for _ in range(300):
        now = agent.deadline
        agent.tick(now)
        heard = said(agent)
        if 0 in offers(heard):
            reminded[round(now)] = (agent.version, len(heard) > 1)
        else:
            assert offers(heard) == [4]
    # Everything again at first, since the host may take us for fresh; and again as what is said at version 0.
    assert list(reminded.items())[:3] == [(40, (3, True)), (100, (0, True)), (220, (0, False))]
    gaps = [later - sooner for sooner, later in pairwise(reminded)]
    assert gaps[-1] == pytest.approx(UNTOLD_LAST_S, abs=BEAT_S)
    assert len(reminded) < 10


def test_a_reminder_says_everything_again() -> None:
    agent = met(version=3)
    agent.receive_data(line("refresh", apiVersion=3), 10.0)
    said(agent)
    agent.tick(10.0 + UNTOLD_S)
    assert names(agent) == ["heartbeat", *expected_set(3)]


def test_a_host_that_tells_when_it_is_reminded_keeps_the_version() -> None:
    agent = met(version=3)
    agent.receive_data(line("refresh", apiVersion=3), 10.0)
    while 0 not in offers(said(agent)):
        agent.tick(agent.deadline)
    agent.receive_data(line("api-version", apiVersion=3), 50.0)
    for _ in range(40):
        assert agent.tick(agent.deadline) == []
    assert agent.version == 3


@pytest.mark.parametrize("told", [line("api-version", apiVersion=3), line("refresh")])
def test_a_host_that_told_is_not_reminded(told: bytes) -> None:
    agent = met(version=3)
    agent.receive_data(line("refresh", apiVersion=3), 10.0)
    agent.receive_data(told, 10.0)
    said(agent)
    for _ in range(40):
        agent.tick(agent.deadline)
        assert offers(said(agent)) == [4]


@pytest.mark.parametrize("version", range(5))
def test_nothing_goes_that_the_version_lacks(version: int) -> None:
    agent = met(version=version)
    for name in ("number-of-cpus", "memory-stats", *REFRESH_SET):
        agent.keep(name, {"probe": name})
        agent.report(name)
    agent.send("completion", {"reply_id": "x", "done": True})
    sent = set(names(agent))
    assert ("number-of-cpus" in sent) == (version >= 1)
    assert ("completion" in sent) == (version >= 3)
    assert {name for name in SINCE if name in sent} == {name for name, since in SINCE.items() if since <= version}
    assert agent.allows("completion") == (version >= 3)


def test_the_version_counts_when_it_is_sent_not_when_it_was_queued() -> None:
    agent = met(version=4)
    agent.send("completion", {"reply_id": "x", "done": True})
    agent.report("guest-tools")
    agent.receive_data(line("api-version", apiVersion=2), 2.0)
    sent = names(agent)
    assert "completion" not in sent
    assert "guest-tools" not in sent
    assert "os-info" in sent


def test_keep_tells_news() -> None:
    agent = met()
    assert agent.keep("fqdn", {"fqdn": "a"})
    assert not agent.keep("fqdn", {"fqdn": "a"})
    assert said(agent) == []
    agent.report("fqdn")
    agent.report("fqdn")
    assert said(agent) == [{"__name__": "fqdn", "fqdn": "a"}]


def test_what_was_never_looked_up_is_not_reported() -> None:
    agent = new_agent(facts=False)
    agent.host_came(0.0)
    agent.report("fqdn")
    assert names(agent) == ["session-startup"]


def test_without_a_host_no_time_is_wanted_and_the_version_stays() -> None:
    agent = met(version=3)
    agent.host_left(101.0)
    assert agent.deadline == float("inf")
    assert agent.tick(200.0) == []
    assert written(agent) == b""
    assert agent.version == 3
    agent.host_came(300.0)
    agent.tick(300.0)
    assert offers(said(agent)) == [4]  # not a fresh process, and no session-startup either


def test_a_hosts_words_may_be_here_before_it_is() -> None:
    agent = met(version=3)
    agent.host_left(10.0)
    agent.receive_data(line("refresh", apiVersion=4), 20.0)
    agent.host_came(20.1)
    assert names(agent) == ["heartbeat", *expected_set(3)]


def test_what_answers_a_host_is_not_for_the_next_one() -> None:
    agent = met(version=3)
    agent.receive_data(line("echo", number=1), 10.0)
    agent.send("completion", {"reply_id": "x", "done": True})
    agent.send("session-lock")
    agent.host_left(10.0)
    agent.host_came(20.0)
    assert names(agent) == ["session-lock"]


def test_what_happens_while_no_host_is_there_is_told_to_the_next_one_once() -> None:
    agent = met(version=3)
    agent.host_left(10.0)
    for number in range(3 * QUEUE_LIMIT):
        agent.keep("fqdn", {"fqdn": str(number)})
        agent.report("fqdn")
        agent.send("session-lock")
    agent.host_came(20.0)
    told = names(agent)
    assert told.count("fqdn") == 1
    assert told.count("session-lock") == QUEUE_LIMIT
