"""A guest that attacks its host over its oVirt channel: orders go in here, a program in the guest carries them out."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.lab import hostile_program
from tests.lab.api import api
from tests.lab.domain_xml import OVIRT_PORT
from tests.lab.guest import Guest
from tests.lab.waiting import wait_for

# Python needs a second to start under TCG.
START_TIMEOUT_S = 30.0
# The daemon reads 128 KiB/s of one guest: the longest attack has 2 MiB.
ORDER_TIMEOUT_S = 60.0
AGREE_TIMEOUT_S = 30.0
# Each look costs the guest a shell.
LOOK_S = 0.1
_PROGRAM = "/opt/hostile_program.py"


def render(message: str, /, **arguments: object) -> bytes:
    """A message as an honest agent would write it."""
    return json.dumps({"__name__": message, **arguments}).encode() + b"\n"


def heartbeat(version: object = 4) -> bytes:
    """A heartbeat that offers this version."""
    return render("heartbeat", **{"free-ram": "1", "memory-stat": {}, "apiVersion": version})


class HostileGuest:
    """A guest without an agent, and its program; ``start`` comes first."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.name = guest.name
        self._orders = self._markers = 0

    def start(self) -> None:
        """Returns when the program is ready; it has not opened the port yet."""
        self.guest.put(_PROGRAM, Path(hostile_program.__file__).read_bytes())
        port = f"/dev/virtio-ports/{OVIRT_PORT}"
        self.guest.shell(f"setsid python3 {_PROGRAM} {port} >/run/hostile.err 2>&1 &")
        wait_for(lambda: 0 in self._results(), START_TIMEOUT_S, "the hostile program to be ready", LOOK_S)

    def order(self, do: str, **arguments: object) -> int:
        """Has something done (a method of `hostile_program.Attacker`), and returns its number at once."""
        self._orders += 1
        order = {"id": self._orders, "do": do, "with": arguments}
        self.guest.put(hostile_program.ORDERS, json.dumps(order).encode() + b"\n", 0o600)
        return self._orders

    def result(self, number: int) -> Any:
        """What an order returned, once it is done."""

        def look() -> dict[int, Any] | None:
            results = self._results()
            return results if number in results else None

        return wait_for(look, ORDER_TIMEOUT_S, f"the hostile program to do its order {number}", LOOK_S)[number]

    def do(self, do: str, **arguments: object) -> Any:
        """Has something done, and returns what came of it."""
        return self.result(self.order(do, **arguments))

    def write(self, *pieces: bytes | tuple[bytes, int], times: int = 1, pause_s: float = 0.0) -> None:
        """Has bytes written to the port, those with a number so often, and returns when the guest is rid of them."""
        counted = [piece if isinstance(piece, tuple) else (piece, 1) for piece in pieces]
        encoded = [(b64encode(piece).decode(), count) for piece, count in counted]
        self.do("write", pieces=encoded, times=times, pause_s=pause_s)

    def flood(self, piece: bytes, seconds: float) -> int:
        """Has the piece written again and again; returns how many bytes the host took, or its port's queue."""
        return int(self.do("flood", piece=b64encode(piece).decode(), seconds=seconds))

    def prove_heard(self, after: bytes = b"") -> None:
        """Writes this, then one good line, and returns when the daemon tells what that line said."""
        self._markers += 1
        name = f"marker-{self._markers}"
        self.write(after + b"\n" + render("host-name", name=name))
        wait_for(
            lambda: self.facts().get("host-name") == {"name": name}, ORDER_TIMEOUT_S, f"{name} to be heard", LOOK_S
        )

    def agree(self) -> None:
        """Returns when version 4 is agreed, however restless it was before."""
        with api(self.guest.here) as client:

            def offer() -> bool:
                client.renegotiate(self.name)  # more often than every few seconds it does nothing
                self.write(heartbeat())
                return client.can_send(self.name, "lifecycle-event").allowed

            wait_for(offer, AGREE_TIMEOUT_S, f"{self.name} to agree", LOOK_S)

    def reads_nothing_that_acts(self) -> None:
        """Opens the port, and finds there only what every host says first."""
        messages = self.do("read", seconds=2)
        assert {message["__name__"] for message in messages} <= {"refresh", "api-version"}

    def facts(self) -> dict[str, Any]:
        """What the daemon tells of what this guest told of itself."""
        with api(self.guest.here) as client:
            return {fact.name: fact.value for fact in client.guest(self.name).facts}

    def _results(self) -> dict[int, Any]:
        text = self.guest.shell(f"cat {hostile_program.LOG} 2>/dev/null || true")
        return {entry["id"]: entry["result"] for entry in map(json.loads, text.splitlines())}
