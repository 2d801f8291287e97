"""The host: routes notices to domains, and keeps one domain's failure from all others."""

import asyncio
import logging
from uuid import UUID

from sidecar.engine.domain import Domain
from sidecar.engine.notices import DomainNotice, Happening, HookNotice, LifecycleNotice, LookNotice
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.errors import DomainGoneError, HypervisorDownError, HypervisorError

logger = logging.getLogger(__name__)

# A domain whose handling failed (a fault of ours) is looked at again after this long.
RECOVERY_S = 5.0

_UUID_DIGITS = 32


class Host:
    """All domains of one libvirt host. ``run`` owns their tasks; every method is for the loop's thread."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._domains: dict[UUID, Domain] = {}
        self._group: asyncio.TaskGroup | None = None
        self._listed = False

    async def run(self) -> None:
        """Own the domains' tasks until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await asyncio.Event().wait()

    async def connected(self, identity: HostIdentity) -> None:
        """Libvirt is there (again): look at every domain, the active ones and those that we knew."""
        self._surroundings.identity = identity
        self._surroundings.tally.libvirt_connected = True
        self._surroundings.tally.libvirt_connections += 1
        active = dict(await self._surroundings.hypervisor.list_domains())
        self._listed = True
        for domain in self._domains.values():
            domain.connection_renewed()
        for uuid, name in active.items():
            if uuid not in self._domains:
                self._ensure_domain(uuid, name).notify(LookNotice(uuid, first_sight=True))
        logger.info("connected to libvirt on %s: %d active domains", ascii(identity.hostname), len(active))

    def disconnected(self) -> None:
        """The connection to libvirt that ``connected`` told of is lost."""
        self._surroundings.tally.libvirt_connected = False

    def notify(self, notice: DomainNotice) -> None:
        """Hand a notice of libvirt's to its domain."""
        domain = self._domains.get(notice.uuid)
        if domain is None or domain.closed:
            news = isinstance(notice, LookNotice) or (
                isinstance(notice, LifecycleNotice) and notice.happening not in (Happening.STOPPED, Happening.REDEFINED)
            )
            if not news:
                return
            domain = self._ensure_domain(notice.uuid, notice.name if isinstance(notice, LifecycleNotice) else "")
        domain.notify(notice)

    async def receive_hook(self, notice: HookNotice) -> None:
        """A hook ran for a domain of this name: look it up ourselves, then look at it."""
        if not self._listed:
            return  # every active domain is looked at when the connection is there
        try:
            uuid = await self._surroundings.hypervisor.find_domain(notice.domain)
        except HypervisorError as error:
            logger.info("hook %s for %s: %s", notice.operation, ascii(notice.domain), error)
            return
        if uuid is not None:
            self.notify(LookNotice(uuid))
            return
        # Before a migration the domain does not exist yet, after a stop a transient one does not any more.
        level = logging.DEBUG if notice.operation in ("migrate", "stopped", "release") else logging.INFO
        logger.log(level, "hook %s for %s: no such domain", notice.operation, ascii(notice.domain))

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Every domain that is known; one that was not looked at yet, or is just going, has no ``stay``."""
        return tuple(self._domains.values())

    def find(self, name: str) -> Domain:
        """The domain of this name or UUID.

        Raises:
            DomainGoneError: None that runs here has it.
            HypervisorDownError: Libvirt has not told yet which domains run here, or has not let us look at this one.
        """
        uuid = parse_uuid(name)
        found = None if uuid is None else self._domains.get(uuid)
        found = found or next((domain for domain in self._domains.values() if domain.name == name), None)
        if found is None:
            self.require_listed()
        elif not found.seen:
            raise HypervisorDownError(f"libvirt has not told yet of domain {name[:255]!a}")
        if found is None or found.stay is None:
            raise DomainGoneError(f"no domain {name[:255]!a} runs here")
        return found

    def require_listed(self) -> None:
        """Know which domains run here.

        Raises:
            HypervisorDownError: Libvirt has not told yet.
        """
        if not self._listed:
            raise HypervisorDownError("libvirt has not told yet which domains run here")

    def reconfigure(self, settings: Settings) -> None:
        """Take new settings; running guests are renegotiated where a cap changed."""
        self._surroundings.settings = settings
        for domain in self._domains.values():
            domain.settings_changed()

    def _ensure_domain(self, uuid: UUID, name: str) -> Domain:
        domain = Domain(uuid, name or str(uuid), self._surroundings)
        self._domains[uuid] = domain
        assert self._group is not None
        self._group.create_task(self._tend(domain))
        return domain

    async def _tend(self, domain: Domain) -> None:
        failed = False
        try:
            await domain.run()
        except Exception:
            failed = True
            logger.exception("%s: handling failed; other domains go on", ascii(domain.name))
        finally:
            if self._domains.get(domain.uuid) is domain:
                del self._domains[domain.uuid]
        if failed:
            await asyncio.sleep(RECOVERY_S)
            if domain.uuid not in self._domains:
                self.notify(LookNotice(domain.uuid))


def parse_uuid(text: str) -> UUID | None:
    """The UUID in any of the forms that people write; ``None`` when it is none."""
    if len(text) < _UUID_DIGITS:
        return None
    try:
        return UUID(text)
    except ValueError:
        return None
