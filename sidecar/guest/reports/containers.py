"""The containers that run in the guest, as Docker's and Podman's engines tell them over their sockets.

Asked in HTTP/1.0, which an engine answers in one piece and closes: so one deadline and one limit hold for everything,
and the standard library's client, which takes 4 MB of the agent's 25, stays out of memory.

Source: Docker Engine API 1.24 and later, GET /containers/json; Podman serves the same.
"""

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from sidecar.guest.reports.bounds import bound_items, report_text
from sidecar.guest.reports.streams import read_to_end

# An engine with more would not keep the answer under its limit.
CONTAINERS_LIMIT = 1000
NAMES_LIMIT = 16
_TEXT_CHARACTERS = 1024

_SOCKETS = ("run/docker.sock", "var/run/docker.sock", "run/podman/podman.sock")
_REQUEST = b"GET /containers/json HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
# Seconds for the whole exchange; an engine that the socket has to start first needs one or two.
_LIMIT_S = 5.0
# Some 2 KB a container with its labels; parsed it takes several times that.
_LIMIT_BYTES = 1024 * 1024


def report_containers(root: Path = Path("/"), limit_s: float = _LIMIT_S) -> dict[str, object]:
    """containers: of every engine that answers; none without an engine.

    Raises:
        OSError: None answers, and one fails or keeps us waiting for ``limit_s`` seconds.
        ValueError: None answers, and one says what is no list of containers.
    """
    found: list[object] = []
    faults: list[OSError | ValueError] = []
    answers = 0
    for path in _find_sockets(root):
        try:
            found += _ask_engine(path, time.monotonic() + limit_s)
            answers += 1
        except (FileNotFoundError, ConnectionRefusedError):  # what a stopped engine leaves behind
            continue
        except (OSError, ValueError) as error:
            faults.append(error)
    if faults and not answers:
        raise faults[0]
    entries = (_describe(entry) for entry in found if isinstance(entry, dict))
    return {"list": bound_items((entry for entry in entries if entry["id"]), CONTAINERS_LIMIT)}


def _find_sockets(root: Path) -> list[Path]:
    """Each socket once: /var/run is a link to /run, and podman-docker links Docker's to its own."""
    return list(dict.fromkeys((root / name).resolve() for name in _SOCKETS if os.path.exists(root / name)))


def _ask_engine(path: Path, deadline: float) -> list[object]:
    with socket.socket(socket.AF_UNIX) as engine:
        engine.settimeout(max(deadline - time.monotonic(), 0.001))
        engine.connect(str(path))
        engine.sendall(_REQUEST)
        answer = read_to_end(engine.fileno(), deadline, _LIMIT_BYTES)
    head, separator, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n")[0].split(b" ")
    if not separator or not status[0].startswith(b"HTTP/1.") or len(status) < 2:
        raise ValueError("a container engine does not speak HTTP")
    if status[1] != b"200":
        raise ValueError(f"a container engine refuses: {status[1][:3].decode(errors='replace')}")
    return _parse(body)


def _parse(body: bytes) -> list[object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("a container engine's answer is no JSON") from error
    if isinstance(document, list):
        return document
    raise ValueError("a container engine's answer is no list")


def _describe(entry: Mapping[str, object]) -> dict[str, object]:
    """What is not as documented is empty; the host gets its five keys, each with its type."""
    return {
        "id": _text(entry.get("Id")),
        "names": list(islice(_texts(entry.get("Names")), NAMES_LIMIT)),
        "image": _text(entry.get("Image")),
        # Podman once gave the words of a command by themselves.
        "command": _text(entry.get("Command")) or " ".join(_texts(entry.get("Command")))[:_TEXT_CHARACTERS],
        "status": _text(entry.get("Status")),
    }


def _text(value: object) -> str:
    return report_text(value, _TEXT_CHARACTERS) if isinstance(value, str) else ""


def _texts(value: object) -> Iterable[str]:
    return (_text(item) for item in value if isinstance(item, str)) if isinstance(value, list) else ()
