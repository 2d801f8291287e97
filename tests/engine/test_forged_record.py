"""A record of this very arrival that somebody else wrote: host UUID and run are no secret. None of its words stays."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sidecar.engine.ports import Activity
from sidecar.record.agreement import Agreement, ChannelRow, Origin
from tests.engine.lone_host import BETA, NEW, LoneHost, settle
from tests.fakes.hypervisor import FakeDomain

pytestmark = pytest.mark.looptime

SINCE = "2026-11-21T06:00:00.000Z"
OURS = ChannelRow(NEW, "ovirt", "agreed", "3", "3", "4", SINCE, None)
FORGED = "\u202efree text\n\x9b31m"


def forge(lone: LoneHost, row: ChannelRow, **words: Any) -> FakeDomain:
    """A domain that runs, whose record says so much of this arrival, with these words of somebody else's."""
    domain = lone.add_domain(Activity.RUNNING, origin=Origin.START, opened=True)
    record = Agreement("beta", BETA.uuid, domain.run, "start", 7, SINCE, (row,))
    domain.live = domain.config = replace(record, **words)
    return domain


@pytest.mark.parametrize(
    "words",
    [{"host": FORGED}, {"arrival": FORGED}, {"arrived": FORGED}, {"arrived": "y" * 3000}, {"arrived": SINCE + "\n"}],
    ids=["host", "arrival", "arrived", "long", "with-a-line-end"],
)
async def test_of_the_arrival(words: Mapping[str, str]) -> None:
    host = LoneHost()
    domain = forge(host, OURS, **words)
    async with host.running():
        host.guest(domain).open()
        await settle(100)
        assert domain.live is not None
        assert (domain.live.host, domain.live.arrival in set(Origin)) == ("beta", True)
        assert domain.live.arrived.startswith("20")
        assert len(domain.live.arrived) == len(SINCE)


@pytest.mark.parametrize(
    "words",
    [{"since": FORGED}, *({name: text} for name in ("version", "guest", "host") for text in ("٣", "1_0", "-5", "+3"))],
    ids=ascii,
)
async def test_of_a_row(words: Mapping[str, Any]) -> None:
    host = LoneHost()
    domain = forge(host, replace(OURS, **words))
    (forged,) = words.values()
    async with host.running():
        for _ in range(20):
            await settle(0.5)
            assert forged not in (getattr(host.row(domain), name) for name in ("version", "guest", "host", "since"))
        host.guest(domain).open()
        await settle(100)
        assert domain.live is not None
        assert forged not in repr(domain.live)


async def test_a_host_that_was_renamed_keeps_the_count() -> None:
    host = LoneHost()
    domain = forge(host, OURS, host="old-name")
    async with host.running():
        host.guest(domain).open()
        await settle(100)
        assert domain.live is not None
        assert (domain.live.host, domain.live.arrivals, domain.live.arrived) == ("beta", 7, SINCE)
