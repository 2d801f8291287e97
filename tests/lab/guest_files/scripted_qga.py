"""In the guest: a QEMU guest agent that does as it is told, politely or not, on a real virtio-serial port.

Its one argument is a JSON object, see `tests.lab.hostile_qga.Script`. What happens is written to a file, one JSON
object a line: `open`, and `received` for each line that came. The program ends with the signal that kills it.
"""

import json
import os
import signal
import sys
import time
from typing import Any

PORTS = "/dev/virtio-ports"
LOG = "/run/scripted-qga.log"

# The driver takes so much a write.
CHUNK = 32768
NO_HOST_PAUSE_S = 0.1
SMUGGLING_S = 0.6
GARBAGE = b"login: no JSON at all\n"
COMMANDS_7_2 = """
    guest-sync-delimited guest-sync guest-ping guest-get-time guest-set-time guest-info guest-shutdown
    guest-file-open guest-file-close guest-file-read guest-file-write guest-file-seek guest-file-flush
    guest-fsfreeze-status guest-fsfreeze-freeze guest-fsfreeze-freeze-list guest-fsfreeze-thaw guest-fstrim
    guest-suspend-disk guest-suspend-ram guest-suspend-hybrid guest-network-get-interfaces guest-get-vcpus
    guest-set-vcpus guest-get-disks guest-get-fsinfo guest-set-user-password guest-get-memory-blocks
    guest-set-memory-blocks guest-get-memory-block-info guest-exec-status guest-exec guest-get-host-name
    guest-get-users guest-get-timezone guest-get-osinfo guest-get-devices guest-ssh-get-authorized-keys
    guest-ssh-add-authorized-keys guest-ssh-remove-authorized-keys guest-get-diskstats guest-get-cpustats
"""
SMUGGLED = {"version": "6.6.6", "supported_commands": [{"name": "guest-info", "enabled": True}]}


class ScriptedQga:
    """One open port, and the script that it follows."""

    def __init__(self, script: dict[str, Any]) -> None:
        self._script = script
        self._behaviour = script["behaviour"]
        self._infos = self._answers = 0
        self._log = open(LOG, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 (process's life)
        self._information = json.dumps(_information(script)).encode()
        if self._behaviour == "nul-escape":
            self._information = self._information.replace(b'"version": "', b'"version": "7.2\\u0000')
        self._port = os.open(f"{PORTS}/{script['port']}", os.O_RDWR)
        self._tell("open", behaviour=self._behaviour)

    def run(self) -> None:
        """Serves until it is killed."""
        if self._behaviour == "garbage-on-open":
            self._write(GARBAGE)
        buffer = b""
        while True:
            data = os.read(self._port, 4096)
            if not data:
                time.sleep(NO_HOST_PAUSE_S)
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                self._receive(line.replace(b"\xff", b""))

    def _receive(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            request = json.loads(line)
        except ValueError:
            self._tell("received", execute=None, line=ascii(line[:200]))
            self._write(_error("JSON parse error"))
            return
        command = request.get("execute")
        self._tell("received", execute=command, id=request.get("id"), arguments=request.get("arguments"))
        if command in ("guest-sync", "guest-sync-delimited"):
            self._synchronise(request)
            return
        if self._script["delays_s"]:
            time.sleep(self._script["delays_s"].pop(0))
        if command == "guest-info":
            self._infos += 1
            if self._infos == self._script["dies_at_info"]:
                os.kill(os.getpid(), signal.SIGKILL)
        self._answers += 1
        if self._script["times"] and self._answers > self._script["times"]:
            self._behaviour = "polite"
        self._misbehave(self._answer(request))

    def _synchronise(self, request: dict[str, Any]) -> None:
        if self._behaviour == "wrong-sync":
            self._write(b'{"return": 4711}\n')
        elif self._behaviour != "silent":
            self._write(self._answer(request))

    def _answer(self, request: dict[str, Any]) -> bytes:
        """What a good agent would say, in one line; an echo of the id as the script has it."""
        if "id" in request and self._script["ids"] == "rejected":
            return _error("QMP input member 'id' is unexpected")
        command, arguments = request.get("execute"), request.get("arguments") or {}
        tail = b"}\n"
        if "id" in request and self._script["ids"] == "echoed":
            tail = b', "id": ' + json.dumps(request["id"]).encode() + tail
        if command in ("guest-sync", "guest-sync-delimited"):
            mark = b"\xff" if command.endswith("delimited") else b""
            return mark + b'{"return": %d' % int(arguments["id"]) + tail
        if command == "guest-info":
            return b'{"return": ' + self._information + tail
        if command == "guest-ping":
            return b'{"return": {}' + tail
        if command == "guest-fsfreeze-status":
            return b'{"return": "thawed"' + tail
        return _error(f"The command {command} has not been found", "CommandNotFound")

    def _misbehave(self, answer: bytes) -> None:
        """Sends what this behaviour makes of a good answer."""
        match self._behaviour:
            case "silent":
                return
            case "garbage":
                self._write(GARBAGE)
            case "not-utf-8":
                self._write(b'{"return": "\xff\xfe\x80"}\n')
            case "not-an-object":
                self._write(b'["return"]\n')
            case "deep":
                self._write(b"[" * 50000 + b"\n")
            case "endless":
                self._write(b"x" * (11 << 20))
            case "nul":
                self._write(answer.replace(b'"return"', b'"re\0turn"'))
            case "twice":
                self._write(answer + answer)
            case "smuggle":
                self._write(b'{"return": ' + json.dumps(SMUGGLED).encode() + b"}\n")
                time.sleep(SMUGGLING_S)  # else libvirt reads both at once, and takes the later
                self._write(answer)
            case _:
                self._write(answer)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._port, view[:CHUNK]) :]

    def _tell(self, event: str, **details: object) -> None:
        self._log.write(json.dumps({"event": event, "uptime": time.monotonic(), **details}) + "\n")


def _information(script: dict[str, Any]) -> object:
    """What guest-info returns."""
    if script["information"] is not None:
        return script["information"]
    names = [*(script["commands"] or COMMANDS_7_2.split()), *(f"guest-invented-{n}" for n in range(script["invented"]))]
    commands = [{"name": name, "enabled": True, "success-response": True} for name in names]
    version = {} if script["version"] is None else {"version": script["version"]}
    return {**version, "supported_commands": commands}


def _error(text: str, kind: str = "GenericError") -> bytes:
    return json.dumps({"error": {"class": kind, "desc": text}}).encode() + b"\n"


if __name__ == "__main__":
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write("scripted-qga")  # the name for pidof and killall
    ScriptedQga(json.loads(sys.argv[1])).run()
