"""What each operation does, under its own name; who may ask, and with which arguments, the bridge has judged before.

Every method raises ``SidecarError``s, which the bridge turns into problems.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from sidecar.api.events import Event, EventType
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.views import (
    DoctorView,
    DomainView,
    FleetForecastView,
    FleetView,
    ForgottenView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
    SentView,
    SummaryView,
)
from sidecar.engine.evacuation import forecast_guests, read_forecast
from sidecar.engine.fleet import Fleet
from sidecar.engine.fleet_asking import FleetAsking
from sidecar.engine.fleet_views import HostAnswer, read_terms, view_caps, view_fleet, view_summary
from sidecar.engine.following import EventFilter, Wish
from sidecar.engine.forecast import forecast_move
from sidecar.engine.host import Host
from sidecar.engine.message_views import view_message, view_messages
from sidecar.engine.settings import Surroundings
from sidecar.engine.stay import Stay
from sidecar.errors import BusDownError, DomainGoneError, HypervisorDownError, MessageNotAllowedError
from sidecar.protocol.guest_text import clean_line
from sidecar.record.policy import Offer

# How long another host may take for its guests, beyond the time that it gives the others.
FORECAST_S = 5.0

# What one poll of a binding that does not stream may bring.
POLL_LIMIT = 1000


class Operations:
    """See the module; for the loop's thread alone."""

    def __init__(
        self,
        engine: Host,
        surroundings: Surroundings,
        describe_host: Callable[[], HostView | None],
        examine: Callable[[str | None], Awaitable[DoctorView]],
        fleet: Fleet,
    ) -> None:
        """``describe_host`` gives this host's offer, ``None`` while libvirt has not said which host it is.

        ``examine`` gives the doctor's word on a domain, or on all of them and the host.
        """
        self._engine, self._surroundings = engine, surroundings
        self._describe_host, self._examine = describe_host, examine
        self._fleet, self._asking = fleet, FleetAsking(fleet)

    async def host(self) -> HostView:
        """This host, and what it offers."""
        view = self._describe_host()
        if view is None:
            raise ProblemError(ProblemCode.LIBVIRT_UNAVAILABLE, "libvirt has not told yet which host this is")
        return view

    async def list(self) -> tuple[DomainView, ...]:
        """Every domain that runs here, by name."""
        self._engine.require_listed()
        views = [domain.stay.view for domain in self._engine.domains if domain.stay is not None]
        return tuple(sorted(views, key=lambda view: view.name))

    async def show(self, domain: str) -> DomainView:
        """One domain."""
        return self._view(domain)

    async def guest(self, domain: str) -> GuestView:
        """What its guest told of itself last."""
        found = self._engine.find(domain)
        stay = found.require_stay()
        await stay.refresh_facts()
        return GuestView(found.name, str(found.uuid), stay.facts.views())

    async def messages(self, domain: str, channel: str | None) -> tuple[MessageView, ...]:
        """The message table, and what may be sent now."""
        stay = self._stay(domain)
        if channel is not None:
            _require_channel(stay, domain, channel)
        return view_messages(stay, channel)

    async def can_send(self, domain: str, message: str, channel: str | None) -> MessageView:
        """Whether a message may be sent now."""
        return view_message(self._stay(domain), message, channel)

    async def send(
        self, domain: str, message: str, arguments: Mapping[str, object] | None, timeout: float, channel: str | None
    ) -> SentView:
        """Send a message and wait for its answer.

        Nothing is queued for a guest that may come later: a message goes to an agent that has been heard since it is
        there, or is refused.
        """
        found = self._engine.find(domain)
        try:
            taker = found.require_stay().choose_channel(message, channel)
            reply = await taker.send(message, arguments or {}, timeout)
        except MessageNotAllowedError as error:
            self._surroundings.tally.refusals[error.refusal.code] += 1
            known = {"message": clean_line(message), "code": error.refusal.code, "why": error.refusal.why}
            self._surroundings.events.publish(EventType.REFUSAL, found.name, found.uuid, **known)
            raise
        return SentView(message, taker.device.name, reply)

    async def renegotiate(self, domain: str, channel: str | None) -> DomainView:
        """Negotiate anew, on one channel or all of them."""
        stay = self._stay(domain)
        if channel is not None:
            _require_channel(stay, domain, channel)
        stay.renegotiate(channel)
        return self._view(domain)

    async def wait(self, domain: str, state: str, timeout: float, channel: str | None) -> DomainView:
        """Return as soon as the record of this arrival stands with the state."""
        wish = Wish(domain, state, channel, lambda: self._find_view(domain))
        try:
            return await wish.come_true(self._surroundings.events.bell, timeout)
        except ProblemError as error:
            if error.problem.code == ProblemCode.DOMAIN_NOT_FOUND:
                self._engine.require_listed()
            raise

    async def events(self, domain: str | None, after: str | None, timeout: float) -> tuple[Event, ...]:
        """What happened after an event, or happens within ``timeout``: as soon as there is one, all that are there."""
        following = self.follow(domain, after)
        first = following.take()
        if first is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    first = await anext(following)
        events = [] if first is None else [first]
        while events and len(events) < POLL_LIMIT and (event := following.take()) is not None:
            events.append(event)
        return tuple(events)

    def follow(self, domain: str | None, after: str | None) -> EventFilter:
        """Likewise, for whoever wants them one by one."""
        return EventFilter(self._surroundings.events.follow(after), domain)

    async def preflight(self, domain: str, offer: Mapping[str, Any]) -> PreflightView:
        """What the guest would lose on a host with this offer."""
        self._engine.find(domain)
        try:
            there = Offer.from_document(offer)
        except ValueError as error:
            raise ProblemError(ProblemCode.BAD_REQUEST, f"preflight: offer: {clean_line(str(error))}") from error
        return await self._forecast(domain, there, clean_line(str(offer.get("hostname", ""))))

    async def doctor(self, domain: str | None) -> DoctorView:
        """What is wrong, and how to mend it."""
        if domain is not None:
            self._engine.find(domain)
        return await self._examine(domain)

    async def summary(self) -> SummaryView:
        """This host in a line."""
        return view_summary(await self.host(), await self.list())

    async def preflight_to(self, domain: str, host: str, timeout: float) -> PreflightView:
        """What the guest would lose on a host of the fleet."""
        self._stay(domain)
        own = await self.host()
        if host == own.hostname:
            return await self._forecast(domain, Offer.from_document(asdict(own)), host)
        offer = await self._asking.fetch_offer(host, timeout)
        return await self._forecast(domain, read_terms(offer), host)

    async def fleet(self, timeout: float) -> FleetView:
        """Every host that the fleet knows; with the bus down, what the others said last."""
        own = await self.summary()
        self._asking.require_bus()
        answers: Mapping[str, HostAnswer] = {}
        problem = None
        try:
            answers = await self._asking.collect(own.host.hostname, timeout)
        except BusDownError as error:
            problem = clean_line(str(error))
        wall, now = self._surroundings.wall_clock(), asyncio.get_running_loop().time()
        caps = view_caps(await self.host(), self._fleet.levels, self._fleet.known, wall, now)
        return view_fleet(own, self._fleet.known.hosts, answers, caps, wall, problem)

    async def fleet_forget(self, host: str) -> ForgottenView:
        """Have every host count a host no more."""
        if host == (await self.host()).hostname:
            raise ProblemError(ProblemCode.BAD_REQUEST, "fleet_forget: host: expected another host than this one")
        await self._asking.forget(host)
        return ForgottenView(host)

    async def fleet_preflight(self, host: str, timeout: float) -> FleetForecastView:
        """Where the guests of a host can go."""
        own = (await self.host()).hostname
        if host != own:
            arguments = {"host": host, "timeout": timeout}
            document = await self._asking.call(host, "fleet_preflight", arguments, timeout + FORECAST_S)
            return read_forecast(document, host)
        self._engine.require_listed()
        answers = await self._asking.collect(own, timeout)
        offers = {name: read_terms(answer.offer) for name, answer in answers.items()}
        guests = await forecast_guests(self._engine.domains, offers, self._surroundings.hypervisor)
        return FleetForecastView(host, guests, tuple(sorted(self._fleet.known.hosts.keys() - answers.keys())))

    async def _forecast(self, domain: str, there: Offer, destination: str) -> PreflightView:
        found = self._engine.find(domain)
        snapshot = await self._surroundings.hypervisor.inspect_domain(found.uuid)
        if snapshot is None:
            raise DomainGoneError(f"domain {found.name!a} does not run here any more")
        forecast = forecast_move(snapshot, found.require_stay().channels, there)
        return PreflightView(
            name=found.name,
            uuid=str(found.uuid),
            destination=destination,
            nothing_lost=forecast.nothing_lost,
            refusal=forecast.refusal,
            channels=forecast.channels,
        )

    def _stay(self, domain: str) -> Stay:
        return self._engine.find(domain).require_stay()

    def _view(self, domain: str) -> DomainView:
        return self._stay(domain).view

    def _find_view(self, domain: str) -> DomainView | None:
        try:
            return self._view(domain)
        except (DomainGoneError, HypervisorDownError):
            return None


def _require_channel(stay: Stay, domain: str, channel: str) -> None:
    if all(there.device.name != channel for there in stay.channels):
        raise ProblemError(ProblemCode.CHANNEL_NOT_FOUND, f"domain {domain!a} has no channel {channel!a}")
