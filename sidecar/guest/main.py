"""``sidecar-guest-agent``: the arguments, the exit code, and errors as one line."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sidecar import __version__
from sidecar.errors import ConfigurationError
from sidecar.guest.log_limit import LogLimit
from sidecar.guest.port import PORTS, open_end
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST, render_message

FAILED, WRONG_USAGE = 1, 2

DEFAULT_CONFIGURATION = Path("/etc/sidecar-guest-agent/agent.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code: 0 after a clean stop, 1 without psutil, 2 for wrong usage or configuration."""
    options = build_parser().parse_args(arguments)
    paths = PORTS if options.device is None else (options.device,)
    if options.uninstalled:
        announce_removal(paths)
        return 0
    try:
        return _serve(options.config, paths, only_check=options.check_config)
    except ConfigurationError as error:
        return _fail(str(error), WRONG_USAGE)
    except ModuleNotFoundError as error:
        if error.name != "psutil":
            raise
        return _fail("psutil is missing (Debian's package is python3-psutil)", FAILED)


def _serve(config: Path | None, paths: Sequence[str], *, only_check: bool) -> int:
    from sidecar.guest.agent import Agent  # these need psutil, which "--help" does not
    from sidecar.guest.configuration import load_configuration
    from sidecar.guest.reports import Reports

    configuration = load_configuration(config, DEFAULT_CONFIGURATION)
    if only_check:
        return 0
    handler = logging.StreamHandler()
    handler.addFilter(LogLimit())
    logging.basicConfig(level=configuration.log_level.upper(), format="%(levelname)s: %(message)s", handlers=[handler])
    logging.getLogger(__name__).info("sidecar-guest-agent %s", __version__)
    Agent(configuration, paths, Reports(configuration.sources)).run()
    return 0


def _fail(text: str, code: int) -> int:
    print(f"sidecar-guest-agent: {text}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """The command line; the man page is made from it, too."""
    parser = argparse.ArgumentParser(
        prog="sidecar-guest-agent",
        description="Tells this guest's host what the guest is, and does what the host wants, as far as it may.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--device",
        metavar="PATH",
        help="a character device, or a unix socket to connect to (default: the oVirt port below /dev/virtio-ports)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"configuration file (default: {DEFAULT_CONFIGURATION})"
    )
    parser.add_argument("--check-config", action="store_true", help="check the configuration and exit")
    parser.add_argument(
        "--uninstalled",
        action="store_true",
        help="tell the host that the agent is being removed, and exit; for package scripts, once it is stopped",
    )
    parser.add_argument("--version", action="version", version=f"sidecar-guest-agent {__version__}")
    return parser


def announce_removal(paths: Sequence[str]) -> None:
    """Write ``uninstalled`` to every port that is there and has a host; what cannot be written is nobody's loss."""
    line = render_message(GUEST_TO_HOST, "uninstalled", 0)
    for path in paths:
        with contextlib.suppress(OSError), open_end(path) as end:
            os.write(end.fileno(), line)


if __name__ == "__main__":
    sys.exit(main())
