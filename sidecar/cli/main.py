"""``sidecarctl``: the arguments, the exit code, and errors as one line.

Starting fast matters here: nothing is imported before a command needs it, and only ``probe`` needs asyncio.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sidecar import __version__
from sidecar.errors import ConfigurationError, SidecarError

DONE, REFUSED, WRONG_USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done or yes, 1 no or refused, 2 wrong usage or configuration."""
    options = build_parser().parse_args(arguments)
    try:
        code = (_run_probe if options.command == "probe" else _run_hooks)(options)
        sys.stdout.flush()
    except SidecarError as error:
        return _fail(str(error), WRONG_USAGE if isinstance(error, ConfigurationError) else REFUSED)
    except BrokenPipeError:
        # The reader (``| head``) has gone; the interpreter's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", REFUSED)
    return code


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; man page and completion are made from it too."""
    parser = argparse.ArgumentParser(
        prog="sidecarctl", description="Look at and set up libvirt-sidecar on this host.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"sidecarctl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    hooks = commands.add_parser("hooks", help="the libvirt hook: install, remove, status", allow_abbrev=False)
    _add_hooks(hooks.add_subparsers(dest="action", metavar="ACTION", required=True))
    _add_probe(commands)
    return parser


def _add_hooks(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for action, text in (
        ("install", "install the hook, or bring it up to date"),
        ("remove", "remove the hook that sidecarctl installed"),
        ("status", "say whether the hook is installed, and its helper works; exit 0 when it is installed and current"),
    ):
        parser = actions.add_parser(action, help=text, description=text, allow_abbrev=False)
        parser.add_argument(
            "--hooks-dir",
            metavar="DIR",
            type=Path,
            default=Path("/etc/libvirt/hooks"),
            help="libvirt's directory of hooks (default: %(default)s)",
        )
        parser.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            help="sidecard's configuration, which names spool and state (default: /etc/sidecar/sidecar.toml)",
        )
        if action == "status":
            parser.add_argument("--json", action="store_true", help="print one JSON document")


def _add_probe(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "negotiate once with an agent behind a plain socket, without libvirt; exit 0 when a version is agreed"
    parser = commands.add_parser("probe", help=text, description=text, allow_abbrev=False)
    dialect = parser.add_mutually_exclusive_group(required=True)
    dialect.add_argument("--qga", metavar="SOCKET", type=Path, help="a QEMU guest agent listens there")
    dialect.add_argument("--ovirt", metavar="SOCKET", type=Path, help="an oVirt guest agent listens there")
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=15.0, help="default: %(default)g seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="sidecard's configuration, for its caps (default: as sidecard's)"
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("expected more than 0 and at most 3600 seconds")
    return seconds


def _run_probe(options: argparse.Namespace) -> int:
    from sidecar.cli.probe import probe
    from sidecar.protocol.states import Dialect

    dialect, socket = (Dialect.QGA, options.qga) if options.qga is not None else (Dialect.OVIRT, options.ovirt)
    finding = probe(dialect, socket, options.config, options.timeout)
    if options.json:
        print(finding.render_json())
    elif finding.agreed:
        print(finding.render_line())
    return DONE if finding.agreed else _fail(f"{socket}: {finding.render_line()}", REFUSED)


def _run_hooks(options: argparse.Namespace) -> int:
    from sidecar.cli import hooks

    match options.action:
        case "install":
            hooks.install(options.hooks_dir, options.config)
        case "remove":
            hooks.remove(options.hooks_dir)
        case _:
            return DONE if hooks.show_status(options.hooks_dir, options.config, as_json=options.json) else REFUSED
    return DONE


def _fail(text: str, code: int) -> int:
    print(f"sidecarctl: {_flatten(text)}", file=sys.stderr)
    return code


def _flatten(text: str) -> str:
    """One line, whatever a path or a file's content put into the text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


if __name__ == "__main__":
    sys.exit(main())
