"""Where the guests of a host can go."""

import asyncio
from typing import Any

import pytest

from sidecar.api.views import FleetForecastView, GuestForecastView
from sidecar.engine.evacuation import forecast_guests, read_forecast
from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.errors import DomainGoneError, HostSilentError, HypervisorDownError, HypervisorError
from sidecar.protocol.releases import Release
from sidecar.record.agreement import Origin
from sidecar.record.policy import Offer, Policy
from tests.engine.lone_host import NEW, LoneHost, settle
from tests.engine.lone_talk import QGA, Talk, talking
from tests.fakes.hypervisor import FakeDomain

pytestmark = pytest.mark.looptime

FULL, OLD, NONE = Offer(4, Release(10, 0)), Offer(2, Release(2, 3)), Offer(0, Release(0, 0))


async def ask(host: LoneHost, **offers: Offer) -> tuple[GuestForecastView, ...]:
    return await forecast_guests(host.engine.domains, offers, host.hypervisor)


async def add_guest(talk: Talk, name: str, activity: Activity = Activity.RUNNING) -> FakeDomain:
    """Another domain, whose agent never spoke."""
    domain = talk.host.add_domain(activity, name=name)
    talk.host.event(domain, Happening.STARTED, Origin.START)
    await settle()
    return domain


def describe(view: GuestForecastView) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    return tuple(view.keeps), [tuple(loss.hosts) for loss in view.losing]


class TestForecast:
    async def test_who_keeps_the_agreement_and_who_does_not(self) -> None:
        async with talking() as talk:
            (view,) = await ask(talk.host, gamma=FULL, epsilon=OLD, delta=FULL, alpha=OLD)
            assert (view.name, view.uuid) == ("vm1", str(talk.domain.uuid))
            assert describe(view) == (("delta", "gamma"), [("alpha", "epsilon")])
            (loss,) = view.losing
            assert loss.refusal is None
            assert [(c.name, c.agreed, c.there) for c in loss.channels] == [(NEW, "3", "2"), (QGA, "7.2", "2.3")]
            assert "lifecycle-event" in {lost.message for lost in loss.channels[0].lost}

    async def test_hosts_are_one_case_when_the_guest_loses_the_same(self) -> None:
        async with talking() as talk:
            (view,) = await ask(talk.host, a=Offer(2, Release(10, 0)), b=Offer(2, Release(9, 0)), c=NONE)
            assert describe(view) == ((), [("a", "b"), ("c",)])
            assert [channel.name for channel in view.losing[0].channels] == [NEW]

    async def test_a_policy_refuses(self) -> None:
        async with talking() as talk:
            talk.domain.policy = Policy((Release(9, 0),), tools=False)
            (view,) = await ask(talk.host, gamma=FULL, delta=Offer(4, Release(8, 2)))
            assert describe(view) == (("gamma",), [("delta",)])
            assert 'min-version="9.0"' in (view.losing[0].refusal or "")
            assert view.losing[0].channels == ()

    async def test_without_other_hosts_nobody_keeps_anything(self) -> None:
        async with talking() as talk:
            (view,) = await ask(talk.host)
            assert (view.keeps, view.losing) == ((), ())

    async def test_every_guest_that_is_here_by_name(self) -> None:
        async with talking() as talk:
            await add_guest(talk, "b")
            await add_guest(talk, "a", Activity.PAUSED)
            await add_guest(talk, "c", Activity.INCOMING)  # its guest is elsewhere still
            views = await ask(talk.host, gamma=NONE)
            assert [(view.name, *describe(view)) for view in views] == [
                ("a", ("gamma",), []),
                ("b", ("gamma",), []),
                ("vm1", (), [("gamma",)]),
            ]

    @pytest.mark.parametrize("error", [None, DomainGoneError("no domain")])
    async def test_a_guest_that_leaves_meanwhile_is_left_out(self, error: Exception | None) -> None:
        async with talking() as talk:
            other = await add_guest(talk, "b")
            if error is None:
                del talk.host.hypervisor.domains[other.uuid]
            else:
                talk.host.hypervisor.fail("inspect_domain", error, uuid=other.uuid)
            assert [view.name for view in await ask(talk.host, gamma=FULL)] == ["vm1"]

    async def test_a_guest_that_ends_while_libvirt_is_asked(self) -> None:
        async with talking() as talk:
            other = await add_guest(talk, "b")
            talk.host.hypervisor.delays_s["inspect_domain"] = 5.0
            asking = asyncio.create_task(ask(talk.host, gamma=FULL))
            await settle(1)
            talk.host.hypervisor.delays_s.clear()
            talk.host.end(other)
            assert [view.name for view in await asking] == ["vm1"]

    async def test_one_whose_policy_is_not_known_is_kept_by_nobody_and_hides_no_other(self) -> None:
        async with talking() as talk:
            other = await add_guest(talk, "b")
            talk.host.hypervisor.fail("inspect_domain", HypervisorError("refused\n"), uuid=other.uuid)
            unknown, known = await ask(talk.host, gamma=FULL)
            assert describe(unknown) == ((), [("gamma",)])
            words = r"libvirt does not tell the policy of domain 'b': refused\n"
            assert unknown.losing[0].refusal == words
            assert describe(known) == (("gamma",), [])

    async def test_libvirt_that_tells_of_no_guest_is_the_answer(self) -> None:
        async with talking() as talk:
            talk.host.hypervisor.down = True
            with pytest.raises(HypervisorDownError):
                await ask(talk.host, gamma=FULL)
            talk.host.hypervisor.down = False

    async def test_without_guests_libvirt_is_not_asked(self) -> None:
        async with LoneHost().running() as host:
            host.hypervisor.down = True
            assert await ask(host, gamma=FULL) == ()

    async def test_libvirt_is_asked_for_few_at_a_time(self) -> None:
        async with talking() as talk:
            for number in range(9):
                await add_guest(talk, f"vm-{number}")
            hypervisor, inspect = talk.host.hypervisor, talk.host.hypervisor.inspect_domain
            under_way = most = 0

            async def count(uuid: Any) -> Any:
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await settle(0.1)
                under_way -= 1
                return await inspect(uuid)

            hypervisor.inspect_domain = count  # type: ignore[method-assign]
            assert len(await ask(talk.host, gamma=FULL)) == 10
            assert most == 2


LOSS: dict[str, Any] = {"hosts": ["a"], "refusal": None, "channels": []}
GUEST: dict[str, Any] = {"name": "vm1", "uuid": "u", "keeps": ["b"], "losing": [LOSS]}
GOOD: dict[str, Any] = {"host": "gamma", "guests": [GUEST], "unanswered": ["c"], "newer": 1}


class TestRead:
    def test_what_a_host_answers(self) -> None:
        view = read_forecast(GOOD, "gamma")
        assert isinstance(view, FleetForecastView)
        assert (view.host, view.unanswered) == ("gamma", ("c",))
        assert describe(view.guests[0]) == (("b",), [("a",)])

    @pytest.mark.parametrize(
        "document",
        [
            None,
            [],
            {},
            GOOD | {"host": "delta"},
            GOOD | {"guests": None},
            GOOD | {"guests": [GUEST | {"keeps": "b"}]},
            GOOD | {"guests": [GUEST | {"losing": [LOSS | {"channels": [{}]}]}]},
            GOOD | {"unanswered": [1]},
        ],
    )
    def test_what_is_no_answer(self, document: object) -> None:
        with pytest.raises(HostSilentError, match="host gamma gave") as caught:
            read_forecast(document, "gamma")
        assert str(caught.value).isprintable()
