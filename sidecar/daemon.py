"""``sidecard``, the host daemon: the one place that builds the adapters and hands them to the engine."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from time import monotonic

from sidecar import __version__
from sidecar.adapters import systemd
from sidecar.adapters.libvirt import EventThread, Libvirt
from sidecar.adapters.offer_file import write_offer
from sidecar.adapters.spool import Spool
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.config import DEFAULT_PATH, Configuration, load_configuration
from sidecar.engine.host import Host
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.errors import ConfigurationError
from sidecar.protocol.versions import OVIRT_ALIASES

logger = logging.getLogger(__name__)

# How long the calls to libvirt that are under way may take to return when we stop.
STOP_S = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code: 0 after a clean stop, 2 for wrong usage or a wrong configuration."""
    options = _parser().parse_args(arguments)
    try:
        configuration = load_configuration(options.config)
    except ConfigurationError as error:
        print(f"sidecard: {error}", file=sys.stderr)
        return 2
    if options.check_config:
        return 0
    systemd.configure_logging(configuration.log.level)
    try:
        asyncio.run(_serve(configuration, options.config))
    except ConfigurationError as error:
        print(f"sidecard: {error}", file=sys.stderr)
        return 2
    _leave_stuck_workers()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sidecard",
        description="Negotiates guest-agent API versions with the guests of this libvirt host.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file (default: {DEFAULT_PATH})")
    parser.add_argument("--check-config", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=f"sidecard {__version__}")
    return parser


class Daemon:
    """The adapters and the engine, wired; ``run`` serves until SIGTERM or SIGINT."""

    def __init__(self, configuration: Configuration, path: Path | None) -> None:
        """``path`` is where the configuration is read again at SIGHUP; needs a running event loop."""
        self._configuration, self._path = configuration, path
        section = configuration.libvirt
        self._libvirt = Libvirt(section.uri, section.keepalive_seconds, configuration.ovirt.channels)
        self._identity: HostIdentity | None = None
        # The identity is filled in by the first connection; there is no domain before it.
        self._surroundings = Surroundings(
            self._libvirt, UnixDialer(), read_settings(configuration), HostIdentity("", "")
        )
        self._host = Host(self._surroundings)
        self._spool = Spool(Path(configuration.paths.spool), self._host.receive_hook)

    async def run(self) -> None:
        """Serve; returns after a clean stop.

        Raises:
            ConfigurationError: The spool cannot serve; nothing was started.
        """
        self._spool.prepare()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        events = EventThread()
        events.start()
        try:
            async with asyncio.TaskGroup() as group:
                parts = (self._host.run(), self._spool.run(), self._libvirt.run(self._connected, self._host.notify))
                tasks = [group.create_task(part) for part in parts]
                logger.info("sidecard %s, oVirt API up to %d", __version__, self._configuration.ovirt_maximum)
                systemd.notify("READY=1")
                await stop.wait()
                systemd.notify("STOPPING=1")
                for task in tasks:
                    task.cancel()
        finally:
            events.stop()

    async def _connected(self, identity: HostIdentity) -> None:
        self._identity = identity
        await self._host.connected(identity)
        self._publish_offer()

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
        self._libvirt.channel_names = configuration.ovirt.channels
        self._host.reconfigure(read_settings(configuration))
        self._publish_offer()
        logger.info("configuration reloaded, oVirt API up to %d", configuration.ovirt_maximum)

    def _publish_offer(self) -> None:
        if self._identity is None:
            return  # libvirt has not told us yet which host this is
        directory = Path(self._configuration.paths.state)
        try:
            write_offer(directory, describe_offer(self._configuration, self._identity))
        except OSError as error:
            logger.warning("%s: the host's offer cannot be written: %s", directory, error)


def read_settings(configuration: Configuration) -> Settings:
    """What the engine needs of the configuration."""
    return Settings(
        ovirt_maximum=configuration.ovirt_maximum,
        responsive_s=configuration.ovirt.responsive_seconds,
        absent_s=configuration.ovirt.absent_seconds,
    )


def describe_offer(configuration: Configuration, identity: HostIdentity) -> dict[str, object]:
    """The host's offer as ``host.json`` holds it; ``maximum`` is after the cap."""
    ovirt = {"maximum": configuration.ovirt_maximum, "cap": configuration.upgrade_levels.ovirt}
    return {
        "hostname": identity.hostname,
        "host_uuid": identity.uuid,
        "daemon": __version__,
        "dialects": {"ovirt": ovirt},
        "aliases": {"ovirt": dict(OVIRT_ALIASES)},
    }


async def _serve(configuration: Configuration, path: Path | None) -> None:
    await Daemon(configuration, path).run()


def _leave_stuck_workers() -> None:
    """Do not wait, as the interpreter would, for a worker that libvirt holds: it may be half a minute."""
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("libvirt-")]
    end = monotonic() + STOP_S
    for thread in workers:
        thread.join(max(0.0, end - monotonic()))
    stuck = [thread for thread in workers if thread.is_alive()]
    if stuck:
        logger.info("leaving %d calls to libvirt behind", len(stuck))
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
