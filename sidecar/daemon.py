"""``sidecard``, the host daemon: the one place that builds the adapters and hands them to the engine."""

import argparse
import asyncio
import faulthandler
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from sidecar import __version__
from sidecar.adapters import systemd
from sidecar.adapters.hook_loading import note_hook_run
from sidecar.adapters.host_checks import HOOKS_DIRECTORY, LOCK_NAME, HookPlaces, check_all, report_libvirt
from sidecar.adapters.libvirt import EventThread, Libvirt
from sidecar.adapters.offer_file import write_offer
from sidecar.adapters.spool import Spool
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.api.events import EventType
from sidecar.api.versions import API_VERSION
from sidecar.api.views import ChannelView, DialectOffer, HostView
from sidecar.bindings.metrics import FleetCount, Metrics
from sidecar.bindings.server import ApiServer
from sidecar.config import DEFAULT_PATH, Configuration, load_configuration
from sidecar.engine.bridge import Bridge
from sidecar.engine.doctor import Doctor, Examination, join
from sidecar.engine.host import Host
from sidecar.engine.notices import HookNotice
from sidecar.engine.operations import Operations
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Caps, Settings, Surroundings
from sidecar.errors import ConfigurationError, MisuseError
from sidecar.membership import Membership
from sidecar.protocol.qga_versions import QGA_ALIASES
from sidecar.protocol.states import Dialect
from sidecar.protocol.versions import OVIRT_ALIASES

logger = logging.getLogger(__name__)

# How long the calls to libvirt that are under way may take to return when we stop.
STOP_S = 2.0

STDERR = 2


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code: 0 after a clean stop, 1 where another runs, 2 for wrong usage or configuration."""
    options = build_parser().parse_args(arguments)
    try:
        configuration = load_configuration(options.config)
    except ConfigurationError as error:
        print(f"sidecard: {error}", file=sys.stderr)
        return 2
    if options.check_config:
        return 0
    systemd.configure_logging(configuration.log.level)
    faulthandler.enable(STDERR)  # libvirt's client library may crash (docs/problems.md): the log says so, and where
    try:
        stuck = asyncio.run(_serve(configuration, options.config))
    except MisuseError as error:
        print(f"sidecard: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    if stuck:
        # The interpreter would wait for their threads, which may be half a minute.
        logger.info("leaving %d calls to libvirt behind", stuck)
        os._exit(0)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line; the man page is made from it, too."""
    parser = argparse.ArgumentParser(
        prog="sidecard",
        description="Negotiates guest-agent API versions with the guests of this libvirt host.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file (default: {DEFAULT_PATH})")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=f"sidecard {__version__}")
    return parser


class Daemon:
    """The adapters and the engine, wired; ``run`` serves until SIGTERM or SIGINT.

    Attributes:
        host: The engine, for whoever serves it to others.
        metrics: What is counted.
    """

    def __init__(self, configuration: Configuration, path: Path | None) -> None:
        """``path`` is where the configuration is read again at SIGHUP; needs a running event loop."""
        self._configuration, self._path = configuration, path
        section = configuration.libvirt
        self._libvirt = Libvirt(section.uri, section.keepalive_seconds, configuration.channel_names)
        self._identity: HostIdentity | None = None
        # The identity is filled in by the first connection; there is no domain before it.
        self._surroundings = Surroundings(
            self._libvirt, UnixDialer(), read_settings(configuration, Caps()), HostIdentity("", "")
        )
        self.host = Host(self._surroundings)
        self._spool = Spool(Path(configuration.paths.spool), self._receive_hook)
        self._membership = Membership(configuration, self._surroundings, self._describe_host, self._apply)
        self._fleet = self._membership.fleet
        self._surroundings.settings = self._read_settings()
        self._bridge = self._make_bridge()
        tally = self._surroundings.tally
        self.metrics = Metrics(tally, self._view_channels, lambda: len(self.host.domains), self._count_fleet)
        self._server = ApiServer(self._bridge, configuration.api, configuration.limits, self.metrics.render)

    def _make_bridge(self) -> Bridge:
        doctor = Doctor(self.host, self._check_host, lambda: self._configuration.channel_names)
        return Bridge(Operations(self.host, self._surroundings, self._describe_host, doctor.examine, self._fleet))

    async def run(self) -> None:
        """Serve; returns after a clean stop.

        Raises:
            MisuseError: Another sidecard runs already; nothing was started.
            ConfigurationError: The spool, the state directory or a socket of the API cannot serve; nothing was started.
        """
        lock = lock_instance(Path(self._configuration.paths.state))
        self._spool.prepare()
        await self._server.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        events = EventThread()
        events.start()
        try:
            async with asyncio.TaskGroup() as group:
                libvirt = self._libvirt.run(self._connected, self._disconnected, self.host.notify)
                parts = (self.host.run(), self._spool.run(), self._membership.run(self._bridge), libvirt)
                tasks = [group.create_task(part) for part in parts]
                logger.info("sidecard %s, %s", __version__, _describe_maxima(self._surroundings.settings))
                self._tell("started")
                systemd.notify("READY=1")
                await stop.wait()
                systemd.notify("STOPPING=1")
                self._tell("stopping")
                await self._server.close()  # nobody is told of domains that are only being let go of
                for task in tasks:
                    task.cancel()
        finally:
            await self._server.close()
            events.stop()
            os.close(lock)

    def wait_stopped(self) -> int:
        """After ``run``: see ``Libvirt.wait_stopped``."""
        return self._libvirt.wait_stopped(STOP_S)

    async def _connected(self, identity: HostIdentity) -> None:
        self._identity = identity
        await self.host.connected(identity)
        self._publish_offer()
        self._tell("libvirt-connected")

    async def _receive_hook(self, notice: HookNotice) -> None:
        note_hook_run(Path(self._configuration.paths.state))
        await self.host.receive_hook(notice)

    async def _check_host(self) -> Examination:
        places = HookPlaces(HOOKS_DIRECTORY, self._path, Path(self._configuration.paths.state))
        found = [await asyncio.to_thread(check_all, places, self._configuration.api), self._membership.examine()]
        if not self._surroundings.tally.libvirt_connected:
            found.append(report_libvirt(self._configuration.libvirt.uri, "there is no connection"))
        return join(found)

    def _disconnected(self) -> None:
        self.host.disconnected()
        self._tell("libvirt-lost")

    def _tell(self, what: str) -> None:
        self._surroundings.events.publish(EventType.DAEMON, what=what)

    def _reload(self) -> None:
        """SIGHUP: take the file's new settings; a wrong file changes nothing."""
        systemd.notify("RELOADING=1")
        try:
            configuration = load_configuration(self._path)
        except ConfigurationError as error:
            logger.error("configuration not reloaded: %s", error)
            return
        finally:
            systemd.notify("READY=1")
        self._configuration = configuration
        logging.getLogger().setLevel(configuration.log.level.upper())
        self._libvirt.channel_names = configuration.channel_names
        self._membership.reconfigure(configuration)
        self._apply()
        logger.info("configuration reloaded, %s", _describe_maxima(self._surroundings.settings))
        self._tell("reloaded")

    def _apply(self) -> None:
        """Take the configuration, and what the fleet caps it to."""
        self.host.reconfigure(self._read_settings())
        self._publish_offer()

    def _read_settings(self) -> Settings:
        return read_settings(self._configuration, self._fleet.caps)

    def _publish_offer(self) -> None:
        view = self._describe_host()
        if view is None:
            return
        self._membership.announce(view)
        directory = Path(self._configuration.paths.state)
        try:
            write_offer(directory, asdict(view))
        except OSError as error:
            logger.warning("%s: the host's offer cannot be written: %s", directory, error)

    def _describe_host(self) -> HostView | None:
        """``None`` while libvirt has not told us which host this is."""
        if self._identity is None:
            return None
        return describe_offer(self._configuration, self._identity, self._fleet.caps)

    def _count_fleet(self) -> FleetCount:
        settings = self._surroundings.settings
        maxima = {Dialect.OVIRT: str(settings.ovirt_maximum), Dialect.QGA: str(settings.qga_maximum)}
        return FleetCount(1 + len(self._fleet.known.hosts), maxima)

    def _view_channels(self) -> Iterable[ChannelView]:
        return (view for domain in self.host.domains if domain.stay is not None for view in domain.stay.view.channels)


def lock_instance(directory: Path) -> int:
    """Make sure that this is the only sidecard with this state directory; returns the lock's file descriptor.

    Raises:
        MisuseError: Another one runs.
        ConfigurationError: The directory cannot be used.
    """
    file = directory / LOCK_NAME
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"paths.state: {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise MisuseError(f"{file}: another sidecard runs already") from error
    return lock


def read_settings(configuration: Configuration, caps: Caps) -> Settings:
    """What the engine needs of the configuration; ``caps`` are the fleet's."""
    return Settings(
        ovirt_maximum=min(configuration.ovirt_maximum, caps.ovirt),
        responsive_s=configuration.ovirt.responsive_seconds,
        absent_s=configuration.ovirt.absent_seconds,
        qga_maximum=min(configuration.qga_maximum, caps.qga),
        qga_absent_s=configuration.qga.absent_seconds,
        qga_channels=frozenset(configuration.qga.channels),
        qga_direct_channels=frozenset(configuration.qga.direct_channels),
        tools_current=configuration.tools_current,
        read_guest_file=configuration.tools.read_guest_file,
    )


def describe_offer(configuration: Configuration, identity: HostIdentity, caps: Caps) -> HostView:
    """The host's offer as ``host.json`` and the API show it; ``maximum`` is after the cap and the fleet's ``caps``."""
    levels, settings = configuration.upgrade_levels, read_settings(configuration, caps)
    return HostView(
        hostname=identity.hostname,
        host_uuid=identity.uuid,
        daemon=__version__,
        bridge=str(API_VERSION),
        dialects={
            "ovirt": DialectOffer(settings.ovirt_maximum, levels.ovirt, configuration.ovirt_maximum),
            "qga": DialectOffer(str(settings.qga_maximum), levels.qga, str(configuration.qga_maximum)),
        },
        aliases={
            "ovirt": dict(OVIRT_ALIASES),
            "qga": {alias: str(release) for alias, release in QGA_ALIASES.items()},
        },
    )


def _describe_maxima(settings: Settings) -> str:
    return f"oVirt API up to {settings.ovirt_maximum}, QGA up to {settings.qga_maximum}"


async def _serve(configuration: Configuration, path: Path | None) -> int:
    """Serve; how many calls libvirt did not give back at the end."""
    daemon = Daemon(configuration, path)
    # All that was imported stays. Each full collection would look through those 50,000 objects while guests wait.
    gc.freeze()
    await daemon.run()
    return daemon.wait_stopped()


if __name__ == "__main__":
    sys.exit(main())
