"""``sidecarctl``: runs a command, and makes errors one line and an exit code.

Starting fast matters here: nothing is imported before a command needs it, and only ``probe`` needs asyncio.
"""

import argparse
import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence

from sidecar.cli.arguments import parse
from sidecar.errors import ConfigurationError, DaemonUnreachableError, SidecarError

DONE, REFUSED, WRONG_USAGE, UNREACHABLE = 0, 1, 2, 3
# As a shell counts a command that SIGINT ended.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Those of the command line by default; then the process is a command's own, and ends with it.

    Returns:
        The exit code: 0 done or yes, 1 no or refused, 2 wrong usage or configuration, 3 the daemon cannot be reached,
        4 it was sent, and nobody knows whether it ran.
    """
    _open_missing()
    if arguments is None:
        _spare_collecting()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    command = ""
    try:
        options = parse(arguments)
        command = options.command
        code = _run(options)
        sys.stdout.flush()
    except SidecarError as error:
        return _report(error)
    except BrokenPipeError:
        # The reader (``| head``) has gone.
        from sidecar.cli.terminal import discard

        discard(sys.stdout)
        return DONE if command == "events" else REFUSED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", REFUSED)
    except KeyboardInterrupt:
        return DONE if command == "events" else INTERRUPTED
    return code


def _open_missing() -> None:
    """Put /dev/null where the process was started without stdin, stdout or stderr (``>&-``).

    Else the daemon's socket would become one of them. The order matters: each gets the lowest number that is free.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, errors="backslashreplace")  # noqa: SIM115  # until the process ends
            setattr(sys, name, stream)


def _spare_collecting() -> None:
    """Collect no garbage, nor at the end: there is hardly any, and to look for it takes a tenth of the time."""
    gc.disable()
    atexit.register(gc.freeze)


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "hooks":
            return _run_hooks(options)
        case "probe":
            return _run_probe(options)
        case "events":
            from sidecar.cli.follow import follow

            gc.enable()  # it may run for months
            return follow(options)
        case _:
            from sidecar.cli.commands import run

            return run(options)


def _report(error: SidecarError) -> int:
    from sidecar.api.problems import ProblemError
    from sidecar.cli.talk import describe

    match error:
        case ProblemError():
            code = error.problem.kind.exit_code
        case ConfigurationError():
            code = WRONG_USAGE
        case DaemonUnreachableError():
            code = UNREACHABLE
        case _:
            code = REFUSED
    return _fail(describe(error), code)


def _run_probe(options: argparse.Namespace) -> int:
    from pathlib import Path

    from sidecar.cli.probe import probe
    from sidecar.protocol.states import Dialect

    dialect, socket = (Dialect.QGA, options.qga) if options.qga is not None else (Dialect.OVIRT, options.ovirt)
    finding = probe(dialect, Path(socket), options.config and Path(options.config), options.timeout)
    if options.json:
        print(finding.render_json())
    elif finding.agreed:
        print(finding.render_line())
    return DONE if finding.agreed else _fail(f"{socket}: {finding.render_line()}", REFUSED)


def _run_hooks(options: argparse.Namespace) -> int:
    from pathlib import Path

    from sidecar.cli import hooks

    directory, configuration = Path(options.hooks_dir), options.config and Path(options.config)
    match options.action:
        case "install":
            hooks.install(directory, configuration)
        case "remove":
            hooks.remove(directory)
        case _:
            return DONE if hooks.show_status(directory, configuration, as_json=options.json) else REFUSED
    return DONE


def _fail(text: str, code: int) -> int:
    from sidecar.cli.terminal import warn

    warn(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
