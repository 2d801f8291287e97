"""Where the guests of a host can go: the operation ``fleet_preflight``.

Hosts that offer the same are one case, so that a fleet of thousands costs a guest two or three forecasts.

Source: docs/api.md, "Preflight".
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter

import msgspec

from sidecar.api.views import FleetForecastView, GuestForecastView, LossView, read_view
from sidecar.engine.domain import Domain
from sidecar.engine.forecast import Forecast, forecast_channels, forecast_move
from sidecar.engine.ports import DomainSnapshot, Hypervisor
from sidecar.engine.stay import Stay
from sidecar.errors import DomainGoneError, HostSilentError, HypervisorError
from sidecar.protocol.guest_text import clean_line
from sidecar.record.policy import Offer

logger = logging.getLogger(__name__)

# The calls to libvirt share some workers with those that arrivals need.
_LOOKS_AT_A_TIME = 2


async def forecast_guests(
    domains: Iterable[Domain], offers: Mapping[str, Offer], hypervisor: Hypervisor
) -> tuple[GuestForecastView, ...]:
    """For each guest that is here, by name: which hosts keep its agreement, and what the others lose.

    A guest that leaves meanwhile is left out. One whose policy libvirt does not tell is kept by nobody.

    Args:
        domains: The host's.
        offers: What the other hosts offer, by hostname.
        hypervisor: Where the guests' policies are.

    Raises:
        HypervisorError: Libvirt told of no guest at all.
    """
    cases = _group_hosts(offers)
    guests = [(domain, stay) for domain in domains if (stay := domain.stay) is not None and not stay.expected]
    looks = await _inspect_all([domain for domain, _ in guests], hypervisor)
    views = []
    for (domain, stay), look in zip(guests, looks, strict=True):
        if look is not None and domain.stay is stay:
            views.append(await _view_guest(domain, stay, look, cases))
    return tuple(sorted(views, key=lambda view: view.name))


def read_forecast(document: object, host: str) -> FleetForecastView:
    """Another host's answer to the same question.

    Raises:
        HostSilentError: It is no answer.
    """
    try:
        checked = msgspec.convert(document, FleetForecastView)
    except msgspec.ValidationError as error:
        words = f"host {host} gave no answer that is understood: {error}"
        raise HostSilentError(clean_line(words)) from error
    if checked.host != host:
        raise HostSilentError(f"host {host} gave the answer of another")
    return read_view(FleetForecastView, msgspec.to_builtins(checked))


def _group_hosts(offers: Mapping[str, Offer]) -> Mapping[Offer, Sequence[str]]:
    cases: dict[Offer, list[str]] = defaultdict(list)
    for hostname, offer in sorted(offers.items()):
        cases[offer].append(hostname)
    return cases


async def _inspect_all(
    domains: Sequence[Domain], hypervisor: Hypervisor
) -> list[DomainSnapshot | HypervisorError | None]:
    free = asyncio.Semaphore(_LOOKS_AT_A_TIME)

    async def inspect(domain: Domain) -> DomainSnapshot | HypervisorError | None:
        async with free:
            try:
                return await hypervisor.inspect_domain(domain.uuid)
            except DomainGoneError:
                return None
            except HypervisorError as error:
                logger.warning("%s: its policy cannot be read: %s", ascii(domain.name), error)
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(inspect(domain)) for domain in domains]
    looks = [task.result() for task in tasks]
    errors = [look for look in looks if isinstance(look, HypervisorError)]
    if errors and len(errors) == len(looks):
        raise errors[0]
    return looks


async def _view_guest(
    domain: Domain, stay: Stay, look: DomainSnapshot | HypervisorError, cases: Mapping[Offer, Sequence[str]]
) -> GuestForecastView:
    keeps: list[str] = []
    losing: dict[Forecast, list[str]] = defaultdict(list)
    for offer, hostnames in cases.items():
        await asyncio.sleep(0)  # a host may have hundreds of guests, and another may just be arriving
        if isinstance(look, HypervisorError):
            words = f"libvirt does not tell the policy of domain '{clean_line(domain.name)}': {clean_line(str(look))}"
            forecast = Forecast(words, forecast_channels(stay.channels, offer))
        else:
            forecast = forecast_move(look, stay.channels, offer)
        if forecast.nothing_lost:
            keeps += hostnames
        else:
            lossy = tuple(channel for channel in forecast.channels if channel.lost)
            losing[replace(forecast, channels=lossy)] += hostnames
    by_hosts = sorted(((sorted(hosts), loss) for loss, hosts in losing.items()), key=itemgetter(0))
    losses = [LossView(tuple(hosts), loss.refusal, loss.channels) for hosts, loss in by_hosts]
    return GuestForecastView(domain.name, str(domain.uuid), tuple(sorted(keeps)), tuple(losses))
