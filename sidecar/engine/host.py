"""The host: routes notices to domains, and keeps one domain's failure from all others."""

import asyncio
import logging
from collections.abc import Mapping
from uuid import UUID

from sidecar.engine.domain import Domain
from sidecar.engine.notices import DomainNotice, Happening, HookNotice, LifecycleNotice, LookNotice
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.errors import DomainGoneError, HypervisorError, MessageNotAllowedError, Refusal

logger = logging.getLogger(__name__)

# A domain whose handling failed (a fault of ours) is looked at again after this long.
RECOVERY_S = 5.0


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
        active = dict(await self._surroundings.hypervisor.list_domains())
        self._listed = True
        for domain in self._domains.values():
            domain.connection_renewed()
        for uuid, name in active.items():
            if uuid not in self._domains:
                self._ensure_domain(uuid, name).notify(LookNotice(uuid, first_sight=True))
        logger.info("connected to libvirt on %s: %d active domains", ascii(identity.hostname), len(active))

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

    def can_send(self, uuid: UUID, message: str, channel: str | None = None) -> Refusal | None:
        """Why this message may not be sent to this domain now; ``None``: it may.

        Args:
            uuid: The domain.
            message: A message of oVirt's from host to guest, or a command of the QEMU guest agent.
            channel: The channel's target name; without one the first that takes the message.

        Raises:
            DomainGoneError: There is no such active domain.
        """
        try:
            self._domain(uuid).choose_channel(message, channel)
        except MessageNotAllowedError as error:
            return error.refusal
        return None

    async def send(
        self, uuid: UUID, message: str, arguments: Mapping[str, object], timeout_s: float, channel: str | None = None
    ) -> object:
        """Send a message to a domain's agent; as ``can_send``, and waits for the answer for ``timeout_s`` at most.

        Returns:
            The result of a QGA command as JSON values, ``{"done": True}`` for a completed lifecycle event, ``None``
            where a message is not answered.

        Raises:
            MessageNotAllowedError: It may not be sent; ``refusal`` says why, and nothing was sent.
            NotSentError: The agent cannot be asked at the moment; nothing was sent.
            JobHeldError: Another client of libvirt's holds the agent; nothing was sent.
            CommandFailedError: The agent answered with an error.
            NoAnswerError: Nobody knows whether it ran, or will run.
            BadReplyError: Likewise; something came back that is no answer.
            HypervisorError: Libvirt failed; unless the kind says otherwise nothing happened.
        """
        return await self._domain(uuid).choose_channel(message, channel).send(message, arguments, timeout_s)

    def _domain(self, uuid: UUID) -> Domain:
        domain = self._domains.get(uuid)
        if domain is None:
            raise DomainGoneError(f"no active domain has the UUID {uuid}")
        return domain

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
