"""A scripted QEMU guest agent in a guest: polite and counted, or as hostile as a guest can be."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.lab.domain_xml import QGA_PORT, channel_state
from tests.lab.guest import Guest
from tests.lab.guest_files import scripted_qga
from tests.lab.waiting import wait_for

# Python needs a second to start under TCG, and several to make a list of a hundred thousand commands.
START_TIMEOUT_S = 30.0
_PROGRAM = "/opt/scripted_qga.py"
_SOURCE = Path(scripted_qga.__file__)

Behaviour = Literal[
    "polite",
    "silent",
    "wrong-sync",  # each guest-sync is answered with another number
    "garbage-on-open",  # one line, then polite
    "garbage",  # from here on: to every command but guest-sync
    "not-utf-8",
    "not-an-object",
    "deep",  # 50 000 times "["
    "endless",  # 11 MB without a newline
    "nul",  # a NUL byte within each answer
    "nul-escape",  # a version of "7.2\u0000" and the script's
    "twice",  # every answer
    "smuggle",  # an answer of its own invention before each good one
]


@dataclass(frozen=True, slots=True)
class Script:
    """What the agent does.

    `version` None leaves it out of guest-info; `commands` empty are those of release 7.2, `invented` so many more;
    `information` is all that guest-info returns, instead. `ids` tells what becomes of a command's id. `delays_s` pass
    before the first so many answers, those to guest-sync left out. After `times` such answers it is polite; 0: never.
    It kills itself at the `dies_at_info`th guest-info.
    """

    behaviour: Behaviour = "polite"
    version: str | None = "7.2.22"
    commands: Sequence[str] = ()
    invented: int = 0
    information: object = None
    ids: Literal["echoed", "dropped", "rejected"] = "echoed"
    delays_s: Sequence[float] = ()
    times: int = 0
    dies_at_info: int = 0
    port: str = QGA_PORT


def start_scripted_qga(guest: Guest, script: Script = Script()) -> None:
    """Returns when it has opened its port; no other agent may be running there."""
    guest.put(_PROGRAM, _SOURCE.read_bytes())
    argument = shlex.quote(json.dumps(asdict(script)))
    guest.shell(f"rm -f {scripted_qga.LOG}; setsid python3 {_PROGRAM} {argument} >/run/scripted-qga.err 2>&1 &")
    wait_for(lambda: _entries(guest, "open"), START_TIMEOUT_S, "the scripted agent to open its port", interval_s=0.1)


def stop_scripted_qga(guest: Guest) -> None:
    """Kills it, if it runs; returns when it has ended. What it has said remains readable."""
    guest.shell("killall -9 scripted-qga 2>/dev/null; while pidof scripted-qga >/dev/null; do usleep 10000; done")


def silence_qga(guest: Guest) -> None:
    """Kills every agent, real and scripted, on each QGA channel; returns when libvirt has seen the ports close."""
    guest.shell("killall -9 qemu-ga 2>/dev/null; while pidof qemu-ga >/dev/null; do usleep 10000; done")
    stop_scripted_qga(guest)
    for channel in guest.spec.channels:
        if channel.startswith("org.qemu."):
            wait_port(guest, "disconnected", channel)


def wait_port(guest: Guest, state: str, channel: str = QGA_PORT) -> None:
    """Returns when libvirt knows the guest's end to be `connected` or `disconnected`, up to a second after it is."""
    wait_for(lambda: channel_state(guest.dumpxml(), channel) == state, 10, f"{channel} to be {state}")


def infos_received(guest: Guest) -> int:
    """How often the scripted agent was asked guest-info since it was started last."""
    return commands_received(guest).count("guest-info")


def commands_received(guest: Guest) -> list[str]:
    """What the scripted agent was asked since it was started last, in order."""
    return [str(entry["execute"]) for entry in _entries(guest, "received")]


def _entries(guest: Guest, event: str) -> list[dict[str, object]]:
    text = guest.shell(f"cat {scripted_qga.LOG} 2>/dev/null || true")
    return [entry for line in text.splitlines() if (entry := json.loads(line))["event"] == event]
