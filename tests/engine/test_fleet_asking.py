"""What is asked of other hosts, and what may come back."""

import pytest

from sidecar.api.problems import ProblemError
from sidecar.engine.fleet_asking import FleetAsking
from sidecar.errors import BusDownError, HostSilentError, HostUnknownError
from tests.engine.lone_bridge import summarize
from tests.engine.lone_fleet import LoneFleet
from tests.engine.lone_host import now
from tests.protocol.offers import describe_offer

pytestmark = pytest.mark.looptime


class TestCollect:
    async def test_who_is_known_is_waited_for_and_who_is_new_is_learnt(self) -> None:
        lone = LoneFleet()
        lone.see("gamma")
        lone.see("delta")
        lone.bus.summaries = {name: summarize(describe_offer(name), 3) for name in ("gamma", "new")}
        begun = now()
        answers = await FleetAsking(lone.fleet).collect("beta", 5.0)
        assert now() - begun == pytest.approx(5.0)
        assert set(answers) == {"gamma", "new"}
        assert set(lone.fleet.known.hosts) == {"gamma", "delta", "new"}

    async def test_nobody_is_waited_for_when_all_have_answered(self) -> None:
        lone = LoneFleet()
        lone.see("gamma")
        lone.bus.summaries = {"gamma": summarize(describe_offer("gamma", ovirt=2))}
        begun = now()
        assert (await FleetAsking(lone.fleet).collect("beta", 5.0))["gamma"].offer.ovirt.maximum == 2
        assert now() == begun
        assert lone.fleet.caps.ovirt == 2  # what it says now holds at once

    async def test_what_is_not_understood_is_no_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        lone = LoneFleet()
        lone.bus.summaries = {"a": None, "b": {"host": {}}, "gamma": summarize(describe_offer("gamma"))}
        assert set(await FleetAsking(lone.fleet).collect("beta", 5.0)) == {"gamma"}
        assert len(caplog.records) == 2

    async def test_nobody_else_is_believed_under_our_own_name(self) -> None:
        lone = LoneFleet()
        lone.bus.summaries = {"x": summarize(describe_offer("beta", ovirt=0))}
        assert await FleetAsking(lone.fleet).collect("beta", 5.0) == {}
        assert not lone.fleet.known.hosts


class TestCall:
    async def test_the_result_is_handed_on(self) -> None:
        lone = LoneFleet()
        lone.bus.results["gamma", "show"] = {"name": "vm1"}
        assert await FleetAsking(lone.fleet).call("gamma", "show", {"domain": "vm1"}, 7.0) == {"name": "vm1"}
        assert lone.bus.calls == [("gamma", "show", {"domain": "vm1"}, 7.0)]

    async def test_who_is_silent_is_known_or_not(self) -> None:
        lone = LoneFleet()
        with pytest.raises(HostUnknownError, match="'gamma'"):
            await FleetAsking(lone.fleet).call("gamma", "host", {}, 1.0)
        lone.see("gamma")
        with pytest.raises(HostSilentError):
            await FleetAsking(lone.fleet).call("gamma", "host", {}, 1.0)

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "\x1b[31m", "x" * 256])
    async def test_what_is_no_hostname_is_not_asked(self, name: str) -> None:
        lone = LoneFleet()
        with pytest.raises(HostUnknownError) as caught:
            await FleetAsking(lone.fleet).call(name, "host", {}, 1.0)
        assert str(caught.value).isprintable()
        assert lone.bus.calls == []

    async def test_anothers_problem_says_whose_it_is(self) -> None:
        lone = LoneFleet()
        lone.bus.results["gamma", "host"] = ProblemError("libvirt-unavailable", "there is no connection", since="now")
        with pytest.raises(ProblemError) as caught:
            await FleetAsking(lone.fleet).call("gamma", "host", {}, 1.0)
        problem = caught.value.problem
        assert (problem.code, problem.extra) == ("libvirt-unavailable", {"since": "now", "host": "gamma"})
        assert problem.detail == "host gamma: there is no connection"

    @pytest.mark.parametrize("document", [None, {}, describe_offer("delta"), describe_offer("gamma", ovirt="x")])
    async def test_an_offer_that_is_none_is_no_answer(self, document: object) -> None:
        lone = LoneFleet()
        lone.bus.results["gamma", "host"] = document
        with pytest.raises(HostSilentError, match="host gamma"):
            await FleetAsking(lone.fleet).fetch_offer("gamma", 1.0)


class TestWithoutABus:
    @pytest.mark.parametrize("configured", [True, False])
    async def test_nobody_can_be_asked(self, configured: bool) -> None:
        lone = LoneFleet()
        lone.see("gamma")
        lone.bus.configured, lone.bus.connected = configured, False
        asking = FleetAsking(lone.fleet)
        words = "there is no connection" if configured else r"no message bus is configured: \[bus\] url"
        for question in (asking.collect("beta", 1.0), asking.call("gamma", "host", {}, 1.0), asking.forget("gamma")):
            with pytest.raises(BusDownError, match=words):
                await question


class TestForget:
    async def test_all_are_told_and_this_host_hears_it_as_all_do(self) -> None:
        lone = LoneFleet()
        lone.see("gamma")
        await FleetAsking(lone.fleet).forget("gamma")
        assert lone.bus.forgotten == ["gamma"]
        assert set(lone.fleet.known.hosts) == {"gamma"}

    async def test_who_is_not_known_cannot_be(self) -> None:
        lone = LoneFleet()
        with pytest.raises(HostUnknownError):
            await FleetAsking(lone.fleet).forget("gamma")
        assert lone.bus.forgotten == []
