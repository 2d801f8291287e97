"""The guest's host name and its fully qualified domain name, without asking anybody.

The original asks the resolver, which may wait half a minute for a DNS server that does not answer, and which answers
with what that server calls the address. Here the local files say it, the ones that the resolver looks at first.

Source: hostname(1), hosts(5), resolv.conf(5). The kernel's own domain name is NIS's and tells nothing.
"""

import os
from pathlib import Path

from sidecar.guest.reports.bounds import report_text
from sidecar.guest.reports.system_files import read_lines, read_word


def report_host_name(root: Path = Path("/")) -> dict[str, object]:
    """host-name: the qualified name, as on Linux it always was.

    Raises:
        OSError: The kernel's name cannot be read.
    """
    return {"name": find_qualified_name(root)}


def report_fqdn(root: Path = Path("/")) -> dict[str, object]:
    """fqdn: the qualified name.

    Raises:
        OSError: The kernel's name cannot be read.
    """
    return {"fqdn": find_qualified_name(root)}


def find_qualified_name(root: Path) -> str:
    """The kernel's name, or the name of /etc/hosts that begins with it, or with the one domain of /etc/resolv.conf.

    The name alone when nothing qualifies it.

    Raises:
        OSError: The kernel's name cannot be read.
    """
    name = read_word(root / "proc/sys/kernel/hostname")
    if name and "." not in name:
        domain = _find_domain(root)
        name = _find_in_hosts(root, name) or (f"{name}.{domain}" if domain else name)
    return report_text(name)


def _find_in_hosts(root: Path, name: str) -> str | None:
    """Another host's name may share our line (``127.0.0.1 localhost.localdomain``), so it must begin with ours."""
    name = name.lower()
    for words in _read_words(root / "etc/hosts"):
        names = words[1:]
        if name in (other.lower() for other in names):
            qualified = [other for other in names if other.lower().startswith(f"{name}.")]
            if qualified:
                return qualified[0]
    return None


def _find_domain(root: Path) -> str | None:
    """The local domain; of a search list with several nobody knows which it is. The last line counts."""
    domain = None
    for words in _read_words(root / "etc/resolv.conf"):
        if words[0] in ("domain", "search"):
            domain = words[1].strip(".") if len(words) == 2 else None
    return domain or None


def _read_words(path: Path) -> list[list[str]]:
    """The words of each line that has any, without comments; none of a file that cannot be read."""
    try:
        lines = read_lines(path)
    except OSError:
        return []
    rows = (os.fsdecode(line).partition("#")[0].split() for line in lines)
    return [row for row in rows if row]
