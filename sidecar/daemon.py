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

from sidecar import __version__
from sidecar.adapters import systemd
from sidecar.adapters.libvirt import EventThread, Libvirt
from sidecar.adapters.spool import Spool
from sidecar.adapters.unix_channel import UnixDialer
from sidecar.config import DEFAULT_PATH, Configuration, load_configuration
from sidecar.engine.host import Host
from sidecar.engine.ports import HostIdentity
from sidecar.engine.settings import Settings, Surroundings
from sidecar.errors import ConfigurationError

logger = logging.getLogger(__name__)


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


async def _serve(configuration: Configuration, path: Path | None) -> None:
    """Run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    libvirt = Libvirt(configuration.libvirt.uri, configuration.libvirt.keepalive_seconds, configuration.ovirt.channels)
    # The identity is filled in by the first connection; there is no domain before it.
    surroundings = Surroundings(libvirt, UnixDialer(), _settings(configuration), HostIdentity("", ""))
    host = Host(surroundings)
    spool = Spool(Path(configuration.paths.spool), host.receive_hook)
    spool.prepare()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, host, libvirt, path)
    events = EventThread()
    events.start()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(host.run()),
                group.create_task(spool.run()),
                group.create_task(libvirt.run(host.connected, host.notify)),
            ]
            systemd.notify("READY=1")
            logger.info("sidecard %s, oVirt API up to %d", __version__, surroundings.settings.ovirt_maximum)
            await stop.wait()
            systemd.notify("STOPPING=1")
            for task in tasks:
                task.cancel()
    finally:
        events.stop()


def _settings(configuration: Configuration) -> Settings:
    return Settings(
        ovirt_maximum=configuration.ovirt_maximum,
        responsive_s=configuration.ovirt.responsive_seconds,
        absent_s=configuration.ovirt.absent_seconds,
    )


def _reload(host: Host, libvirt: Libvirt, path: Path | None) -> None:
    """SIGHUP: take the file's new settings; a wrong file changes nothing."""
    try:
        configuration = load_configuration(path)
    except ConfigurationError as error:
        logger.error("configuration not reloaded: %s", error)
        return
    logging.getLogger().setLevel(configuration.log.level.upper())
    libvirt.channel_names = configuration.ovirt.channels
    host.reconfigure(_settings(configuration))
    logger.info("configuration reloaded, oVirt API up to %d", configuration.ovirt_maximum)


def _leave_stuck_workers() -> None:
    """Do not wait, as the interpreter would, for a worker that libvirt holds: it may be half a minute."""
    stuck = [thread for thread in threading.enumerate() if thread.name.startswith("libvirt-")]
    if stuck:
        logger.info("leaving %d calls to libvirt behind", len(stuck))
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
