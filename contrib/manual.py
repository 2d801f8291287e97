"""Writes man pages and shell completions from the programs' own parsers: see ``contrib/manpages``."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

from sidecar import __version__, daemon
from sidecar.cli import arguments
from sidecar.guest import main as guest

REPOSITORY = Path(__file__).resolve().parents[1]

# What an argument that is called so takes, for the shell to complete.
_COMPLETED = {"FILE": shtab.FILE, "PATH": shtab.FILE, "SOCKET": shtab.FILE, "DIR": shtab.DIRECTORY}

_SOCKETS = {
    "/run/sidecar/api.sock": "the daemon's socket for root and the group libvirt: every operation",
    "/run/sidecar/api-ro.sock": "the daemon's socket for everybody: what may be read without secrets; used by whoever "
    "may not open the other one and names none",
}
_CONFIGURATION = {"/etc/sidecar/sidecar.toml": "the configuration; without it every default holds"}


@dataclass(frozen=True)
class Page:
    """One program's page; the tables become sections of definitions."""

    parser: argparse.ArgumentParser
    section: int
    summary: str
    see_also: str
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.parser.prog}.{self.section}"


def list_pages() -> list[Page]:
    """Every program's."""
    return [
        Page(
            arguments.build_parser(),
            1,
            "look at guest-agent agreements of this libvirt host, and use them",
            "sidecard(8), virsh(1), sidecar-guest-agent(8)",
            {
                "exit status": {
                    "0": "done, or yes",
                    "1": "no: refused, not allowed, not found, not in time, or a fault was found; stderr says why",
                    "2": "wrong usage",
                    "3": "the daemon cannot be reached; nothing was changed",
                    "4": "it was sent, and nobody knows whether it ran",
                },
                "environment": {
                    "SIDECAR_SOCKET": "the daemon's socket, where --socket names none",
                    "SIDECAR_BUS": "the file that says how the message bus is reached, where --bus names none",
                    "NO_COLOR": "when it is set and not empty, nothing has colours; nor has it in a pipe",
                },
                "files": {**_SOCKETS, **_CONFIGURATION},
            },
        ),
        Page(
            daemon.build_parser(),
            8,
            "negotiate guest-agent versions on each arrival of a libvirt guest",
            "sidecarctl(1), libvirtd(8)",
            {
                "signals": {
                    "SIGTERM, SIGINT": "end; exit status 0",
                    "SIGHUP": "read the configuration again",
                },
                "exit status": {
                    "0": "ended by a signal",
                    "1": "another sidecard runs already",
                    "2": "wrong usage, or a wrong configuration",
                },
                "files": {**_CONFIGURATION, **_SOCKETS},
            },
        ),
        Page(
            guest.build_parser(),
            8,
            "tell the host what its guest is, in oVirt's dialect",
            "sidecard(8), qemu-ga(8)",
        ),
    ]


def render_page(page: Page) -> str:
    """The page in man's own language."""
    # The exit codes have a section of their own.
    page.parser.epilog = None
    data = {
        "project_name": "libvirt-sidecar",
        "version": __version__,
        "manual_section": page.section,
        "manual_title": "libvirt-sidecar",
        "description": page.summary,
    }
    manual = Manpage(page.parser, data)
    for title, table in page.tables.items():
        manual.add_section(title, "=", "\n".join(_render_definitions(table)))
    manual.add_section("see also", "=", _escape(page.see_also))
    return str(manual)


def _render_definitions(table: Mapping[str, str]) -> Iterator[str]:
    for term, meaning in table.items():
        yield f".TP\n\\fB{_escape(term)}\\fR\n{_escape(meaning)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("-", "\\-")


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Have the shell complete names of files where an argument is one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                complete_files(command)
        elif action.metavar in _COMPLETED:
            action.complete = _COMPLETED[action.metavar]  # type: ignore[attr-defined]  # where shtab looks for it


def build(target: Path) -> list[Path]:
    """Write everything below the directory; the paths."""
    pages = list_pages()
    files = {f"man/{page.name}": render_page(page) for page in pages}
    for page in pages:
        complete_files(page.parser)
        name = page.parser.prog
        files[f"completions/bash/{name}"] = shtab.complete(page.parser, "bash")
        files[f"completions/zsh/_{name}"] = shtab.complete(page.parser, "zsh")
        files[f"completions/fish/{name}.fish"] = shtab.complete(page.parser, "fish")
    for name, content in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return [target / name for name in files]


if __name__ == "__main__":
    # Usage is wrapped to the terminal's width, and a page is to be the same wherever it is made.
    os.environ["COLUMNS"] = "80"
    for path in build(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "dist"):
        print(os.path.relpath(path))
