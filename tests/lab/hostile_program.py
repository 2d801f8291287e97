"""In the guest: does to its own oVirt port what it is ordered to; `tests.lab.hostile_guest` starts it.

Orders come over a FIFO, one JSON object a line: `{"id": N, "do": NAME, ...}`, the arguments being those of the method.
When one is done, `{"id": N, "result": ...}` is a line of the log. It reads the port only when it is told to.
"""

import base64
import json
import os
import select
import sys
import time
from typing import Any

ORDERS = "/run/hostile.orders"
LOG = "/run/hostile.log"

# The driver takes so much a write, and about a hundred writes before one has to wait.
CHUNK = 32768
# What waits then the host reads at its own pace, long after the flood: with small writes it is little.
FLOOD_CHUNK = 4096


class Attacker:
    """Holds the port; what an order needs of it is opened anew when an earlier one has closed it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._port = -1
        self._seen: list[str] = []

    def open(self) -> None:
        """Opens the port; what an earlier owner of it left of a line is ended."""
        if self._port < 0:
            self._port = os.open(self._path, os.O_RDWR)
            self._put(b"\n")

    def close(self) -> None:
        """Lets go of the port; what the host has not read by then it never will."""
        if self._port >= 0:
            os.close(self._port)
            self._port = -1

    def write(self, pieces: list[tuple[str, int]], times: int = 1, pause_s: float = 0.0) -> None:
        """Writes the pieces in turn, each repeated so often, all of it so many times, pausing after each."""
        self.open()
        for piece in [base64.b64decode(piece) * count for piece, count in pieces] * times:
            self._put(piece)
            if pause_s:
                time.sleep(pause_s)

    def flood(self, piece: str, seconds: float) -> int:
        """Writes the piece again and again, as fast as the host reads; returns how many bytes it was rid of."""
        self.open()
        data = base64.b64decode(piece)
        chunks = [data[start : start + FLOOD_CHUNK] for start in range(0, len(data), FLOOD_CHUNK)]
        written, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            for chunk in chunks:
                written += os.write(self._port, chunk)
        self._put(b"\n")
        return written

    def flap(self, seconds: float) -> int:
        """Closes and opens the port all the time, with one heartbeat each; returns how often."""
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            self.close()
            self.open()
            self._put(b'{"__name__": "heartbeat", "free-ram": "1", "apiVersion": 4}\n')
            count += 1
        return count

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """The host's messages that can be read in this time, whenever they were sent; of a torn one nothing."""
        self.open()
        data, end = b"", time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._port], [], [], left)[0]:
                data += os.read(self._port, CHUNK)
        return [message for message in map(_parse, data.splitlines()) if message]

    def forge(self, seconds: float) -> int:
        """Answers whatever wants an answer with every other id than the right one; returns how many questions."""
        asked, end, buffer = 0, time.monotonic() + seconds, b""
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._port], [], [], left)[0]:
                continue
            *lines, buffer = (buffer + os.read(self._port, CHUNK)).split(b"\n")
            for reply_id in [_parse(line).get("reply_id") for line in lines]:
                if reply_id is not None:
                    asked += 1
                    self._forge_answers(reply_id)
        return asked

    def _forge_answers(self, reply_id: str) -> None:
        """All that were asked before, which makes them late, and what resembles the one that is waited for."""
        for other in (*self._seen, "", "0" * 32, reply_id.upper() + "0", reply_id[:-1], [reply_id], None):
            self._put(json.dumps({"__name__": "completion", "reply_id": other, "done": True}).encode() + b"\n")
        self._seen.append(reply_id)

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._port, data[:CHUNK]) :]


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def main() -> None:
    """Serves until it is killed."""
    attacker = Attacker(sys.argv[1])
    os.mkfifo(ORDERS)
    # Also open for writing: the end of one who gives orders is not the end of all.
    with open(LOG, "w", buffering=1, encoding="utf-8") as log, open(os.open(ORDERS, os.O_RDWR), "rb") as orders:
        log.write('{"id": 0, "result": null}\n')
        for line in orders:
            order = json.loads(line)
            result = getattr(attacker, order.pop("do"))(**order.pop("with"))
            log.write(json.dumps({"id": order["id"], "result": result}) + "\n")


if __name__ == "__main__":
    main()
