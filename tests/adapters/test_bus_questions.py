"""What the daemon asks of the process beside it, and what comes of that."""

import asyncio

import pytest

from sidecar.adapters import bus_process, bus_questions
from sidecar.api.link import Word
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.errors import BusDownError, HostSilentError
from tests.adapters.bus_rig import BEGINNING, BusRig, Puppet, hear_numbers, impatience, rig, tell, until  # noqa: F401

pytestmark = pytest.mark.thorough


async def test_what_the_process_is_asked(rig: BusRig) -> None:
    puppet = await rig.begun()
    for asking, values, result in (
        (
            rig.bus.call("alpha", "host", {"x": 1}, 5),
            {"what": "call", "host": "alpha", "operation": "host", "arguments": {"x": 1}, "timeout_s": 5},
            {"hostname": "alpha"},
        ),
        (rig.bus.collect({"b", "a"}, 2.5), {"what": "collect", "expected": ["a", "b"], "timeout_s": 2.5}, [1, 2]),
        (rig.bus.forget("alpha"), {"what": "forget", "hostname": "alpha", "timeout_s": 5}, None),
    ):
        asked = asyncio.create_task(asking)
        heard = await puppet.hear(Word.ASK)
        number = heard.pop("id")
        assert heard == values
        await puppet.say(Word.DONE, id=number, result=result)
        assert await asked == result


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ProblemCode.BUS_UNAVAILABLE, BusDownError),
        (ProblemCode.HOST_UNREACHABLE, HostSilentError),
        (ProblemCode.DOMAIN_NOT_FOUND, ProblemError),
        ("of-a-newer-host", ProblemError),
    ],
)
async def test_problems(rig: BusRig, code: str, kind: type[Exception]) -> None:
    puppet = await rig.begun()
    asked = asyncio.create_task(rig.bus.call("alpha", "show", {}, 5))
    number = (await puppet.hear(Word.ASK))["id"]
    problem = {"code": code, "detail": "so it is", "extra": {"required": "2"}}
    await puppet.say(Word.DONE, id=number, problem=problem)
    with pytest.raises(kind, match="so it is") as caught:
        await asked
    if isinstance(caught.value, ProblemError):
        assert (caught.value.problem.code, caught.value.problem.extra) == (code, {"required": "2"})


async def test_answers_come_in_any_order_and_late_ones_are_nobodys(rig: BusRig) -> None:
    puppet = await rig.begun()
    asked = [asyncio.create_task(rig.bus.call("alpha", name, {}, 5)) for name in "abc"]
    numbers = {(heard := await puppet.hear(Word.ASK))["operation"]: heard["id"] for _ in asked}
    asked[1].cancel()
    for name in "cba":
        await puppet.say(Word.DONE, id=numbers[name], result=name)
    assert [await asked[0], await asked[2]] == ["a", "c"]
    assert rig.bus.connected


async def test_a_process_that_does_not_answer(rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_questions, "MARGIN_S", 0.01)
    await rig.begun()
    with pytest.raises(BusDownError, match="gave no answer"):
        await rig.bus.collect([], 0.01)


async def test_a_process_that_dies_answers_no_more(rig: BusRig) -> None:
    puppet = await rig.begun()
    asked = asyncio.create_task(rig.bus.collect([], 60))
    await puppet.hear(Word.ASK)
    puppet.die()
    with pytest.raises(BusDownError, match="has ended"):
        await asked


async def test_nobody_knows_what_became_of_a_forgetting_without_an_answer(
    rig: BusRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_questions, "MARGIN_S", 0.01)
    monkeypatch.setattr(bus_process, "FORGET_S", 0.01)
    puppet = await rig.begun()
    with pytest.raises(ProblemError, match="nobody knows") as caught:
        await rig.bus.forget("alpha")
    assert caught.value.problem.code == ProblemCode.OUTCOME_UNKNOWN
    await puppet.hear(Word.ASK)
    monkeypatch.undo()
    asked = asyncio.create_task(rig.bus.forget("alpha"))
    await puppet.hear(Word.ASK)
    puppet.die()
    with pytest.raises(ProblemError, match="has ended") as caught:
        await asked
    assert caught.value.problem.code == ProblemCode.OUTCOME_UNKNOWN


async def test_not_too_many(rig: BusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_questions, "QUESTIONS_LIMIT", 2)
    puppet = await rig.begun()
    asked = [asyncio.create_task(rig.bus.collect([], 60)) for _ in range(2)]
    await puppet.hear(Word.ASK)
    await puppet.hear(Word.ASK)
    with pytest.raises(BusDownError, match="are under way"):
        await rig.bus.collect([], 60)
    for task in asked:
        task.cancel()


async def test_who_has_not_begun_is_not_asked(rig: BusRig) -> None:
    rig.bus.begin(BEGINNING)
    with pytest.raises(BusDownError, match="does not run"):
        await rig.bus.collect([], 1)
    await rig.puppet()
    with pytest.raises(BusDownError, match="takes no question"):
        await rig.bus.collect([], 1)


async def test_a_list_that_is_none(rig: BusRig) -> None:
    puppet = await rig.begun()
    asked = asyncio.create_task(rig.bus.collect([], 60))
    await puppet.say(Word.DONE, id=(await puppet.hear(Word.ASK))["id"], result="all")
    with pytest.raises(BusDownError, match="no list"):
        await asked
