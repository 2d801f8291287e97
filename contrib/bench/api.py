"""Bench: `show` over the unix socket, at least 0.5 times the requests a second of a bare handler with the same bytes.

Both servers are asked by the same clients in turns: processes that send requests in batches and only count the bytes
that come back, so that the clients cost little and the server is what is measured.
"""

import multiprocessing
import socket
import statistics
import sys
from http.client import HTTPResponse
from pathlib import Path
from time import monotonic, sleep

from contrib.bench.lab_run import open_laboratory
from sidecar.client import DEFAULT_SOCKET
from tests.lab.domain_xml import OVIRT_PORT, QGA_PORT, GuestSpec
from tests.lab.host import Host
from tests.lab.laboratory import Laboratory
from tests.lab.records import wait_agreed, wait_for_qga
from tests.lab.waiting import wait_for

LIMIT = 0.5
CLIENTS = 2
BATCH = 16
SECONDS = 1.0


def measure(runs: int) -> dict[str, object]:
    """``runs`` turns of a second for each server; requests a second, ``ratio`` of the medians."""
    with open_laboratory() as lab:
        raw = _measure(lab, runs)
    p50 = {arm: statistics.median(values) for arm, values in raw.items()}
    ratio = p50["sidecard"] / p50["bare"]
    return {
        "name": "api",
        "unit": "requests/s",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "at_least": True,
        "passed": ratio >= LIMIT,
        "raw": raw,
    }


def _measure(lab: Laboratory, runs: int) -> dict[str, list[float]]:
    alpha = lab.host("alpha")
    alpha.install_hook()
    alpha.start_sidecard()
    guest = lab.guest(GuestSpec(channels=(OVIRT_PORT, QGA_PORT)))
    guest.define(alpha)
    guest.start()
    wait_agreed(guest, 3)
    wait_for_qga(guest, "agreed", "7.2")
    target = f"/v1/domains/{guest.name}"
    ours = str(alpha.path(DEFAULT_SOCKET))
    theirs = _start_bare(alpha, _ask(ours, target)[0])
    sockets = {"sidecard": ours, "bare": theirs}
    raw: dict[str, list[float]] = {arm: [] for arm in sockets}
    for run in range(runs + 1):
        for arm, path in sockets.items():
            rate = _load(path, target)
            if run:  # the first of each warms it up
                raw[arm].append(round(rate))
    return raw


def _start_bare(host: Host, body: bytes) -> str:
    body_file, ready, path = host.root / "body.json", host.root / "bare.log", "/run/lab/bare.sock"
    body_file.write_bytes(body)
    host.path(path).parent.mkdir(parents=True, exist_ok=True)
    with ready.open("w") as log:
        script = Path(__file__).with_name("bare_api.py")
        host.popen([sys.executable, str(script), path, str(body_file)], stdout=log)
    wait_for(lambda: "ready" in ready.read_text(), 10, "the bare server to be ready")
    return str(host.path(path))


def _ask(path: str, target: str) -> tuple[bytes, int]:
    """One answer's body, and how many bytes the whole answer has."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(_request(target))
        peeked = client.recv(65536, socket.MSG_PEEK)
        response = HTTPResponse(client)
        response.begin()
        body = response.read()
        head = peeked.partition(b"\r\n\r\n")[0]
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status}: {body!r}")
    return body, len(head) + 4 + len(body)


def _request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _load(path: str, target: str) -> float:
    """Requests a second that the server answered to all clients."""
    size = _ask(path, target)[1]
    with multiprocessing.Pool(CLIENTS) as pool:
        return sum(pool.starmap(_run_client, [(path, target, size)] * CLIENTS))


def _run_client(path: str, target: str, size: int) -> float:
    batch, expected, answered = _request(target) * BATCH, size * BATCH, 0
    buffer = bytearray(expected)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        sleep(0.1)  # the other clients come up
        begun = monotonic()
        while (took := monotonic() - begun) < SECONDS:
            client.sendall(batch)
            left = expected
            while left:
                count = client.recv_into(memoryview(buffer)[expected - left :], left)
                if not count:
                    raise SystemExit(f"{path}: the server hung up")
                left -= count
            if buffer.count(b"HTTP/1.1 200 ") != BATCH:
                raise SystemExit(f"{path}: not every answer was a good one")
            answered += BATCH
    return answered / took
