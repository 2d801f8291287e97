"""The arguments of ``sidecarctl``; man page and completion are made from them, too.

Nothing is imported here before an argument needs it: every command starts with this.
"""

import argparse
from collections.abc import Sequence
from typing import Any, TypeAlias

from sidecar import __version__
from sidecar.cli.argument_values import (
    parse_hostname,
    parse_object,
    parse_pair,
    parse_patience,
    parse_seconds,
    read_object,
)
from sidecar.cli.width import count_columns

# As the operation ``wait`` has them.
STATES = ("agreed", "unversioned", "waiting", "lost", "absent")

_EXIT_CODES = (
    "Exit codes: 0 done, or yes; 1 no: refused, not allowed, not found; 2 wrong usage; 3 the daemon cannot be reached; "
    "4 it was sent, and nobody knows whether it ran. SIDECAR_SOCKET names the daemon's socket where --socket does not, "
    "and SIDECAR_BUS the file that --bus names."
)
_SOCKET = "the daemon's socket (default: /run/sidecar/api.sock)"
_HOST = "ask the daemon of that host, over the message bus"
_BUS = "TOML file whose [bus] says how the bus is reached (default: /etc/sidecar/sidecar.toml)"
_CONFIGURATION = "sidecard's configuration, which names spool and state (default: /etc/sidecar/sidecar.toml)"
_CAPS = "sidecard's configuration, for its caps (default: /etc/sidecar/sidecar.toml)"

# What ``add_subparsers`` returns has no other name.
Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Formatter(argparse.HelpFormatter):
    """argparse's own, told the width: it makes one for each argument that is added, and would import shutil for it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=count_columns() - 2)


class _Parser(argparse.ArgumentParser):
    """A parser as all here are, those of the commands, too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=_Formatter)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; wrong usage ends the program, as argparse does."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    late, strange = _find_late(rest) if options.command == "send" else ([], rest)
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if options.command == "send":
        options.arguments = _join_arguments(parser, options, late)
    _check_way(parser, options)
    return options


def _check_way(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program where the daemon is named in two ways, or in one that the command does not go."""
    if options.host is not None and options.socket is not None:
        parser.error("argument --host: not allowed with argument --socket")
    if options.command in ("hooks", "probe") and (options.host, options.bus) != (None, None):
        parser.error(f"{options.command}: works on this host alone, without --host and --bus")
    if options.host is None and options.bus is not None:
        parser.error("argument --bus: expected --host with it")
    if options.command == "preflight" and options.destination is None and options.timeout is not None:
        parser.error("argument --timeout: expected --host with it")


def _join_arguments(parser: argparse.ArgumentParser, options: argparse.Namespace, late: list[str]) -> Any:
    """Those of --args and all the pairs; ``None`` where there are none of either."""
    try:
        pairs = [*options.pairs, *map(parse_pair, late)]
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument KEY=VALUE: {error}")
    return {**(options.arguments or {}), **dict(pairs)} if pairs else options.arguments


def _find_late(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """The pairs among what argparse left over, and the rest.

    Left over is what comes after an option that stands between them, since it fills "[KEY=VALUE ...]" only once; "--"
    is with them, and behind it there are no options.
    """
    place = rest.index("--") if "--" in rest else len(rest)
    before, behind = rest[:place], rest[place + 1 :]
    late = [text for text in before if "=" in text and text[0] not in "-="]
    return [*late, *behind], [text for text in before if text not in late]


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(
        prog="sidecarctl",
        description="Look at the agreements between this host and the agents in its guests, send gated messages, "
        "and set up libvirt-sidecar.",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"sidecarctl {__version__}")
    parser.add_argument("--socket", metavar="PATH", help=_SOCKET)
    parser.add_argument("--host", metavar="NAME", type=parse_hostname, help=_HOST)
    parser.add_argument("--bus", metavar="FILE", help=_BUS)
    # With its own "prog" argparse need not measure the terminal, which costs a tenth of the start.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="sidecarctl")
    _add_reading(commands)
    _add_sending(commands)
    _add_waiting(commands)
    _add_preflight(commands)
    _add_events(commands)
    _add_doctor(commands)
    _add_fleet(commands)
    hooks = commands.add_parser("hooks", help="the libvirt hook: install, remove, status")
    _add_hooks(hooks.add_subparsers(dest="action", metavar="ACTION", required=True, prog=hooks.prog))
    _add_probe(commands)
    return parser


def _add(commands: Commands, name: str, text: str, *, domain: bool = True) -> _Parser:
    """A command that asks the daemon."""
    parser = commands.add_parser(name, help=text, description=text)
    if domain:
        parser.add_argument("domain", metavar="DOMAIN", help="name or UUID of a domain that runs here")
    _add_way(parser, host=name != "preflight")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _add_way(parser: argparse.ArgumentParser, *, host: bool = True) -> None:
    """Which daemon; all may stand before the command as well, and must not undo what stands there."""
    parser.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=_SOCKET)
    if host:
        parser.add_argument("--host", metavar="NAME", type=parse_hostname, default=argparse.SUPPRESS, help=_HOST)
    parser.add_argument("--bus", metavar="FILE", default=argparse.SUPPRESS, help=_BUS)


def _add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", metavar="C", help="target name of the channel (default: the one that fits best)")


def _add_reading(commands: Commands) -> None:
    _add(commands, "list", "every domain that runs here: channels, states, agreed versions, tools", domain=False)
    _add(commands, "show", "one domain: channels, arrival, tools, and what its guest told of itself, with its age")
    messages = _add(commands, "messages", "the message table, with what may be sent now and, where not, why")
    _add_channel(messages)
    can_send = _add(commands, "can-send", "whether a message may be sent now; exit 0 or 1, with the reason")
    can_send.add_argument("message", metavar="MESSAGE", help="a message of oVirt's, or a command of the QEMU agent")
    _add_channel(can_send)
    _add(commands, "host", "this host and what it offers", domain=False)


def _add_sending(commands: Commands) -> None:
    send = _add(commands, "send", "send a message, when it may be sent, and print its reply where it has one")
    send.add_argument("message", metavar="MESSAGE", help="a message of oVirt's, or a command of the QEMU agent")
    send.add_argument(
        "pairs",
        metavar="KEY=VALUE",
        nargs="*",
        type=parse_pair,
        help='an argument of the message; VALUE is JSON where it can be read so (3, true, null, "3", [...], {...}), '
        "and else text",
    )
    send.add_argument(
        "--args",
        dest="arguments",
        metavar="JSON",
        type=parse_object,
        help="the arguments as a JSON object, or - for stdin, or @FILE; secrets belong into these two: every user can "
        "read a command line",
    )
    send.add_argument(
        "--timeout", metavar="S", type=parse_seconds, default=10.0, help="seconds to wait for the answer (default: 10)"
    )
    _add_channel(send)
    _add_channel(_add(commands, "renegotiate", "forget what was agreed, and negotiate anew now"))


def _add_waiting(commands: Commands) -> None:
    wait = _add(commands, "wait", "return as soon as this arrival is agreed; exit 1 and the reason when not in time")
    wait.add_argument("--for", dest="state", choices=STATES, default="agreed", help="wait for this (default: agreed)")
    wait.add_argument("--timeout", metavar="S", type=parse_patience, default=60.0, help="seconds to wait (default: 60)")
    wait.add_argument(
        "--channel", metavar="C", help="only this channel; without, one channel of each dialect has to be there"
    )


def _add_preflight(commands: Commands) -> None:
    text = "what this guest would lose on another host, before it moves; exit 0 when nothing, 1 when something"
    preflight = _add(commands, "preflight", text)
    where = preflight.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--offer",
        metavar="FILE",
        type=read_object,
        help='what "sidecarctl host --json" prints on that host; - for stdin',
    )
    where.add_argument(
        "--host",
        dest="destination",
        metavar="NAME",
        type=parse_hostname,
        help="the fleet is asked for what that host offers; before the command, --host names the host that is asked",
    )
    waiting = "seconds to wait for that host, with --host (default: 5)"
    preflight.add_argument("--timeout", metavar="S", type=parse_seconds, help=waiting)


def _add_events(commands: Commands) -> None:
    text = "follow what happens, one event a line, until it is interrupted; a daemon that restarts is waited for"
    events = _add(commands, "events", text, domain=False)
    events.add_argument("domain", metavar="DOMAIN", nargs="?", help="name or UUID: only what concerns this domain")
    events.add_argument("--after", metavar="ID", help="begin after this event, whose id --json shows")


def _add_doctor(commands: Commands) -> None:
    text = "what is wrong with host, hook, sockets and channels, and how to mend it; exit 1 when something is"
    doctor = _add(commands, "doctor", text, domain=False)
    doctor.add_argument("domain", metavar="DOMAIN", nargs="?", help="name or UUID: only this domain")
    _add_hook_options(doctor)


def _add_fleet(commands: Commands) -> None:
    text = "every host of the fleet: versions, caps, guests; exit 1 when one did not answer"
    fleet = _add(commands, "fleet", text, domain=False)
    waiting = "seconds to wait for the other hosts (default: 5)"
    fleet.add_argument("--timeout", metavar="S", type=parse_seconds, default=5.0, help=waiting)
    # With its own "prog", as above; without an action the fleet is shown.
    actions: Commands = fleet.add_subparsers(dest="action", metavar="ACTION", prog=fleet.prog)
    for name, text in (
        ("forget", "count a host no more that will not come back"),
        ("preflight", "where the guests of a host could go, and what they would lose; exit 1 when one must lose"),
    ):
        parser = actions.add_parser(name, help=text, description=text)
        parser.add_argument("named", metavar="HOST", type=parse_hostname, help="name of a host of the fleet")
        _add_way(parser)
        # Both may stand before the action as well.
        parser.add_argument("--timeout", metavar="S", type=parse_seconds, default=argparse.SUPPRESS, help=waiting)
        parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")


def _add_hook_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hooks-dir",
        metavar="DIR",
        default="/etc/libvirt/hooks",
        help="libvirt's directory of hooks (default: %(default)s)",
    )
    parser.add_argument("--config", metavar="FILE", help=_CONFIGURATION)


def _add_hooks(actions: Commands) -> None:
    for action, text in (
        ("install", "install the hook, or bring it up to date"),
        ("remove", "remove the hook that sidecarctl installed"),
        ("status", "say whether the hook is installed, and its helper works; exit 0 when it is installed and current"),
    ):
        parser = actions.add_parser(action, help=text, description=text)
        _add_hook_options(parser)
        if action == "status":
            parser.add_argument("--json", action="store_true", help="print one JSON document")


def _add_probe(commands: Commands) -> None:
    text = "negotiate once with an agent behind a plain socket, without libvirt; exit 0 when a version is agreed"
    parser = commands.add_parser("probe", help=text, description=text)
    dialect = parser.add_mutually_exclusive_group(required=True)
    dialect.add_argument("--qga", metavar="SOCKET", help="a QEMU guest agent listens there")
    dialect.add_argument("--ovirt", metavar="SOCKET", help="an oVirt guest agent listens there")
    parser.add_argument("--timeout", metavar="S", type=parse_seconds, default=15.0, help="default: %(default)g seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--config", metavar="FILE", help=_CAPS)
