import json
from typing import Any

import pytest

from tests.fakes.ovirt_agent import HABITS, REFRESH_SET, AgentModel, Era, Received

ALL = list(Era)
VERSIONED = [era for era in Era if HABITS[era].versioned]
AT_ZERO = [
    "active-user",
    "applications",
    "host-name",
    "os-version",
    "network-interfaces",
    "disks-usage",
    "fqdn",
]
AT_TWO = [*AT_ZERO, "timezone", "os-info"]
AT_THREE = ["active-user", "applications", "containers", *AT_TWO[2:]]


def messages(lines: list[bytes]) -> list[dict[str, Any]]:
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def names(lines: list[bytes]) -> list[str]:
    return [message["__name__"] for message in messages(lines)]


def tell(model: AgentModel, name: str, **arguments: object) -> list[bytes]:
    return model.receive(json.dumps({"__name__": name, **arguments}).encode() + b"\n")


def at(version: int, era: Era = Era.V1_0_16) -> AgentModel:
    model = AgentModel(era)
    tell(model, "api-version", apiVersion=version)
    assert model.version == version
    return model


@pytest.mark.parametrize("era", ALL)
def test_start_loses_everything_above_0(era: Era) -> None:
    model = AgentModel(era)
    assert names(model.start()) == ["session-startup", *AT_ZERO]
    assert model.version == 0


@pytest.mark.parametrize(
    ("era", "expected"),
    [
        (Era.V1_0_8, [None, None, None]),
        (Era.V1_0_9_1, [1, 1, 1]),
        (Era.V1_0_10, [1, 1, 1]),
        (Era.V1_0_11, [2, 2, 2]),
        (Era.V1_0_12, [0, 3, 3]),
        (Era.V1_0_13, [0, 3, 3]),
        (Era.V1_0_16, [0, 3, 3]),
    ],
)
def test_heartbeat_offers(era: Era, expected: list[int | None]) -> None:
    model = AgentModel(era)
    assert [messages(model.heartbeat())[0].get("apiVersion") for _ in range(3)] == expected
    assert ("apiVersion" in messages(model.heartbeat())[0]) == (expected[0] is not None)


def test_heartbeat_offer_does_not_depend_on_the_version_in_force() -> None:
    model = at(2)
    assert [messages(model.heartbeat())[0]["apiVersion"] for _ in range(2)] == [0, 3]


def test_heartbeat_shape() -> None:
    (message,) = messages(AgentModel(Era.V1_0_16).heartbeat())
    assert isinstance(message["free-ram"], str)
    assert isinstance(message["memory-stat"], dict)


def test_oldest_does_not_know_api_version() -> None:
    model = AgentModel(Era.V1_0_8)
    assert tell(model, "api-version", apiVersion=1) == []
    assert model.version == 0
    assert model.log == [Received("api-version", {"apiVersion": 1})]


@pytest.mark.parametrize("era", [Era.V1_0_9_1, Era.V1_0_10])
def test_first_versioned_ones_set_silently(era: Era) -> None:
    model = AgentModel(era)
    assert tell(model, "api-version", apiVersion=1) == []
    assert model.version == 1


@pytest.mark.parametrize(
    ("era", "version", "expected"),
    [
        (Era.V1_0_11, 2, AT_TWO),
        (Era.V1_0_12, 3, AT_THREE),
        (Era.V1_0_13, 3, ["session-startup", *AT_THREE]),
        (Era.V1_0_16, 3, ["session-startup", *AT_THREE]),
        (Era.V1_0_16, 2, ["session-startup", *AT_TWO]),
        (Era.V1_0_16, 1, ["session-startup", *AT_ZERO]),
    ],
)
def test_changed_version_resends_at_the_new_version(era: Era, version: int, expected: list[str]) -> None:
    model = AgentModel(era)
    assert names(tell(model, "api-version", apiVersion=version)) == expected
    assert tell(model, "api-version", apiVersion=version) == []


@pytest.mark.parametrize("era", VERSIONED)
def test_version_above_maximum_is_clamped(era: Era) -> None:
    model = AgentModel(era)
    tell(model, "api-version", apiVersion=99)
    assert model.version == HABITS[era].maximum


@pytest.mark.parametrize(("value", "version"), [("2", 2), (2.9, 2), (True, 1), (0, 0)])
def test_odd_numbers_are_taken(value: object, version: int) -> None:
    model = at(3)
    assert tell(model, "api-version", apiVersion=value) != []
    assert model.version == version


@pytest.mark.parametrize("value", [None, [], {}, "x", "3.0", float("inf"), float("nan")])
def test_no_number_keeps_the_version(value: object) -> None:
    model = at(2)
    assert tell(model, "api-version", apiVersion=value) == []
    assert model.version == 2


def test_missing_key_keeps_the_version() -> None:
    model = at(2)
    assert tell(model, "api-version") == []
    assert model.version == 2


def test_negative_mutes_until_told_0_or_more() -> None:
    model = at(3)
    assert tell(model, "api-version", apiVersion=-1) == []
    assert model.version == -1
    assert model.heartbeat() == []
    assert tell(model, "refresh") == []
    assert tell(model, "refresh", apiVersion=3) == []
    assert tell(model, "echo", a=1) == []
    assert names(tell(model, "api-version", apiVersion=0)) == ["session-startup", *AT_ZERO]
    assert names(model.heartbeat()) == ["heartbeat"]


@pytest.mark.parametrize("value", [0, 1, 3, 99, None, "x"])
def test_refresh_ignores_the_number(value: object) -> None:
    model = at(3)
    assert names(tell(model, "refresh", apiVersion=value)) == ["session-startup", *AT_THREE]
    assert model.version == 3


def test_refresh_without_key_falls_to_0() -> None:
    model = at(3)
    assert names(tell(model, "refresh")) == ["session-startup", *AT_ZERO]
    assert model.version == 0


@pytest.mark.parametrize("era", [Era.V1_0_8, Era.V1_0_9_1, Era.V1_0_10, Era.V1_0_11, Era.V1_0_12])
def test_refresh_before_1_0_13_sends_no_session_startup(era: Era) -> None:
    assert names(tell(AgentModel(era), "refresh", apiVersion=3)) == AT_ZERO


def test_lifecycle_event_completes_from_version_3_only() -> None:
    model = at(2)
    assert tell(model, "lifecycle-event", type="before_migration", reply_id="r") == []
    model = at(3)
    (reply,) = messages(tell(model, "lifecycle-event", type="before_migration", reply_id="r"))
    assert reply == {"__name__": "completion", "reply_id": "r", "done": True}
    assert tell(model, "lifecycle-event", type="after_migration") == []
    assert names(tell(model, "lifecycle-event", reply_id="r")) == ["completion"]
    assert tell(model, "lifecycle-event", type="dispatch", reply_id="r") == []


def test_number_of_cpus() -> None:
    assert names(tell(at(1), "set-number-of-cpus", count=2)) == ["number-of-cpus"]
    assert tell(AgentModel(Era.V1_0_16), "set-number-of-cpus", count=2) == []


def test_framing_is_tolerant() -> None:
    model = AgentModel(Era.V1_0_16)
    line = b'{"__name__":"api-version","apiVersion":2}\n'
    assert model.receive(b"garbage\n\xff\xfe\n\n[1]\n3\n{}\n" + b"[" * 100_000 + b"\n" + line[:7]) == []
    assert model.receive(line[7:-1]) == []
    assert model.receive(line[-1:]) != []
    assert model.version == 2
    assert [command.name for command in model.log] == ["api-version"]


def test_maximum_4_sends_guest_tools() -> None:
    model = AgentModel(Era.V1_0_16, maximum=4)
    assert names(tell(model, "api-version", apiVersion=4)) == ["session-startup", *REFRESH_SET]


def test_prompt_answers_refresh_with_heartbeats() -> None:
    model = AgentModel(Era.V1_0_16, maximum=4, prompt=True)
    first = messages(tell(model, "refresh", apiVersion=4))
    assert (first[0]["__name__"], first[0]["apiVersion"]) == ("heartbeat", 0)
    assert model.follow_up_s is not None
    assert model.follow_up_s < 0.1
    model.follow_up_s = None
    assert messages(model.heartbeat())[0]["apiVersion"] == 4
    assert messages(tell(model, "refresh", apiVersion=4))[0]["apiVersion"] == 4
    assert model.follow_up_s is None
    assert names(tell(model, "refresh"))[0] != "heartbeat"


def test_originals_do_not_answer_refresh_with_a_heartbeat() -> None:
    assert "heartbeat" not in names(tell(AgentModel(Era.V1_0_16), "refresh", apiVersion=3))


def test_stop_says_goodbye() -> None:
    assert names(AgentModel(Era.V1_0_16).stop()) == ["session-shutdown"]
