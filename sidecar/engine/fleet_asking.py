"""What the operations ask of the other hosts; whatever comes back is looked at here."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from sidecar.api.problems import ProblemError
from sidecar.engine.fleet import Fleet
from sidecar.engine.fleet_views import HostAnswer, read_answer
from sidecar.engine.ports import FleetBus
from sidecar.errors import BusDownError, HostSilentError, HostUnknownError
from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.host_offer import HostOffer, is_hostname

logger = logging.getLogger(__name__)

# There may be thousands, of some 25 us each; an arrival must not wait for all of them.
_ANSWERS_AT_A_TIME = 64


class FleetAsking:
    """See the module; every method raises ``BusDownError`` when there is no connection, or no bus configured."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def require_bus(self) -> FleetBus:
        """The bus, connected or not.

        Raises:
            BusDownError: None is configured.
        """
        bus = self._fleet.bus
        if not bus.configured:
            raise BusDownError("no message bus is configured: [bus] url")
        return bus

    async def collect(self, own: str, timeout_s: float) -> dict[str, HostAnswer]:
        """What the other hosts say of themselves now, by hostname; who was not known is known then.

        ``own`` is this host's name, under which nobody else is believed.
        """
        answers: dict[str, HostAnswer] = {}
        documents = await self.require_bus().collect(tuple(self._fleet.known.hosts), timeout_s)
        for number, document in enumerate(documents):
            if number % _ANSWERS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            try:
                answer = read_answer(document)
            except ValueError as error:
                logger.warning("fleet: an answer is not understood: %s", error)
                continue
            self._fleet.see(answer.offer)
            if answer.offer.hostname != own:
                answers[answer.offer.hostname] = answer
        return answers

    async def call(self, host: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """What an operation of another host's results in; nobody has looked at it yet.

        Raises:
            HostUnknownError: It is not known, and nobody of this name answers.
            HostSilentError: It is known, and does not answer.
            ProblemError: The other host's; the words say whose, and so does ``host`` in ``extra``: that another daemon
                is too old must not be taken for this one's age.
        """
        bus = self.require_bus()
        if not is_hostname(host):
            raise _make_unknown(host)
        try:
            return await bus.call(host, operation, arguments, timeout_s)
        except HostSilentError as error:
            if host in self._fleet.known.hosts:
                raise
            raise _make_unknown(host) from error
        except ProblemError as error:
            problem = error.problem
            extra = {**problem.extra, "host": host}
            raise ProblemError(problem.code, f"host {host}: {problem.detail}", **extra) from error

    async def fetch_offer(self, host: str, timeout_s: float) -> HostOffer:
        """What another host offers now; raises as ``call`` does, and ``HostSilentError`` for nonsense."""
        document = await self.call(host, "host", {}, timeout_s)
        try:
            offer = HostOffer.parse(document)
        except ValueError as error:
            raise HostSilentError(f"host {host} gave no answer that is understood: {error}") from error
        if offer.hostname != host:
            raise HostSilentError(f"host {host} says that it is {offer.hostname}")
        return offer

    async def forget(self, host: str) -> None:
        """Have every host count it no more; this one does so when it hears the word itself.

        Raises:
            HostUnknownError: It is not known; nobody was told.
        """
        bus = self.require_bus()
        if host not in self._fleet.known.hosts:
            raise _make_unknown(host)
        await bus.forget(host)


def _make_unknown(host: str) -> HostUnknownError:
    return HostUnknownError(f"the fleet knows no host '{clean_line(host)}'")
