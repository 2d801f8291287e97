"""Bench (c): ``sidecarctl`` starts in at most twice the time that Python takes to start with what it needs.

Two commands: ``--help``, which asks nobody, and ``host``, which asks a daemon's socket; both against the same
interpreter that imports argparse, json and http.client and ends. The arms alternate, so that whatever else the machine
does hits all of them. What answers is no daemon, but a server with one answer: its work is not what is measured.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from threading import Thread

LIMIT = 2.0
BARE = "import argparse, json, http.client"
_WARM_UP_RUNS = 3
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_HOST = {
    "hostname": "bench",
    "host_uuid": "00000000-0000-0000-0000-000000000000",
    "daemon": "0",
    "bridge": "1.0",
    "dialects": {"ovirt": {"maximum": 4, "cap": "max"}, "qga": {"maximum": "10.0", "cap": "max"}},
    "aliases": {},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(_HOST).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Sidecar-API-Version", "1.0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


def measure_help(runs: int) -> dict[str, object]:
    """``sidecarctl --help``; milliseconds, ``ratio`` of the medians."""
    return _compare("cli-help", ("--help",), runs)


def measure_host(runs: int) -> dict[str, object]:
    """``sidecarctl host`` likewise."""
    with tempfile.TemporaryDirectory() as work, _serve(Path(work, "api.sock")) as socket:
        return _compare("cli-host", ("host", "--socket", str(socket)), runs)


def _compare(name: str, arguments: tuple[str, ...], runs: int) -> dict[str, object]:
    ours = str(Path(sys.executable).with_name("sidecarctl"))
    arms = {"sidecarctl": (ours, *arguments), "bare": (sys.executable, "-c", BARE)}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for run in range(_WARM_UP_RUNS + runs):
        for arm, command in arms.items():
            elapsed_ms = _time_run(command)
            if run >= _WARM_UP_RUNS:
                times[arm].append(round(elapsed_ms, 1))
    p50 = {arm: statistics.median(values) for arm, values in times.items()}
    ratio = p50["sidecarctl"] / p50["bare"]
    return {
        "name": name,
        "unit": "ms",
        "runs": runs,
        "p50": p50,
        "ratio": ratio,
        "limit": LIMIT,
        "passed": ratio <= LIMIT,
        "raw": times,
    }


@contextlib.contextmanager
def _serve(path: Path) -> Iterator[Path]:
    with UnixStreamServer(str(path), _Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


def _time_run(command: tuple[str, ...]) -> float:
    """Milliseconds; what it prints goes nowhere."""
    start_ns = time.perf_counter_ns()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(command[0], command, _ENVIRONMENT, file_actions=quiet)
    _, status = os.waitpid(pid, 0)
    elapsed_ms = (time.perf_counter_ns() - start_ns) / 1e6
    if status:
        raise SystemExit(f"{' '.join(command)}: wait status {status}")
    return elapsed_ms
