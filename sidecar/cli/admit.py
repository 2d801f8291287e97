"""The hook's helper: whether a domain that migrates in asks for more, in its policy, than this host offers.

The hook runs this very file, ``/usr/bin/python3 -IBS admit.py OFFER CONFIGURATION DOMAIN``, with the incoming XML on
its stdin: outside of any virtual environment, so with the standard library and our own pure modules alone. ``OFFER`` is
``host.json``, ``CONFIGURATION`` the daemon's file, for when the former is missing or broken.

Exit code 10 refuses, with one line on stdout that says why; 0 admits; any other is a fault, its cause the last line of
the output, and the hook admits.
"""

import os
import sys
from collections.abc import Sequence
from xml.etree import ElementTree

if __name__ == "__main__":
    # Run by its path. Last: nothing that lies beside our package may stand in for the standard library.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.qga_versions import parse_qga_cap
from sidecar.protocol.versions import parse_ovirt_cap
from sidecar.record.policy import Offer, judge, read_policy, shows_tools

# 10 because nothing else ends with it: neither the interpreter (1, 2, 120), nor timeout (124 to 127), nor a signal.
ADMITTED, FAULT, REFUSED = 0, 1, 10

# libvirt's own limit on a string that comes over its wire.
XML_LIMIT_BYTES = 4 * 1024 * 1024

# Each is under 2 KB when nobody made it something else.
FILE_LIMIT_BYTES = 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Judge the XML on stdin; returns the exit code. Whatever fails is a fault, and never ``REFUSED``."""
    try:
        refusal = _judge(*arguments)
        if refusal is None:
            return ADMITTED
        print(refusal, flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {clean_line(str(error))}", flush=True)
        return FAULT
    return REFUSED


def _judge(offer_path: str, configuration_path: str, domain: str) -> str | None:
    text = _read_stdin()
    if "<!DOCTYPE" in text:
        raise ValueError("the XML has a document type; entities grow where they are used")
    root = ElementTree.fromstring(text)
    policy = read_policy(root)
    if policy is None:
        return None
    return judge(policy, domain, has_tools=shows_tools(root), offer=read_offer(offer_path, configuration_path))


def read_offer(offer_path: str, configuration_path: str) -> Offer:
    """This host's offer, from ``host.json`` or else from the configuration.

    Raises:
        ConfigurationError: There is no sound ``host.json``, and the caps in the configuration are wrong.
        ValueError: Likewise, and it is no TOML, or too large.
        OSError: Likewise, and it cannot be read, although it exists.
    """
    try:
        return parse_offer(_read_file(offer_path))
    except (OSError, ValueError):
        pass
    try:
        text = _read_file(configuration_path)
    except FileNotFoundError:
        text = b""  # then every default holds
    return parse_caps(text)


def parse_offer(text: bytes) -> Offer:
    """The maxima in ``host.json``.

    Raises:
        ValueError: It holds something else.
    """
    import json

    try:
        return Offer.from_document(json.loads(text))
    except RecursionError as error:
        raise ValueError(f"no offer: {error!r}") from error


def parse_caps(text: bytes) -> Offer:
    """What ``[upgrade_levels]`` leaves of what this code speaks; of the rest only that it is TOML is looked at.

    Raises:
        ConfigurationError: A cap is none.
        ValueError: No TOML, or no table.
    """
    import tomllib

    try:
        levels = tomllib.loads(text.decode()).get("upgrade_levels", {})
    except RecursionError as error:
        raise ValueError("not TOML: nested too deep") from error
    if not isinstance(levels, dict):
        raise ValueError("upgrade_levels: expected a table")  # noqa: TRY004 (the file's fault, not a caller's)
    # "auto" is the fleet's: it caps nothing as long as no daemon has told in ``host.json`` what it comes to.
    caps = {dialect: cap for dialect, cap in levels.items() if cap != "auto"}
    return Offer(parse_ovirt_cap(caps.get("ovirt", "max")), parse_qga_cap(caps.get("qga", "max")))


def _read_stdin() -> str:
    text = sys.stdin.buffer.read(XML_LIMIT_BYTES + 1)
    if len(text) > XML_LIMIT_BYTES:
        raise ValueError(f"the XML has more than {XML_LIMIT_BYTES} bytes")
    return text.decode()


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(FILE_LIMIT_BYTES + 1)
    if len(content) > FILE_LIMIT_BYTES:
        raise ValueError(f"{path}: more than {FILE_LIMIT_BYTES} bytes")
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
