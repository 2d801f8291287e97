"""sidecard with a door for tests: what the engine can send is asked for over a socket, a JSON line each way.

It runs on a lab host in place of sidecard, until sidecard has an API of its own.
"""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from sidecar.adapters import systemd
from sidecar.config import load_configuration
from sidecar.daemon import Daemon
from sidecar.errors import MessageNotAllowedError, SidecarError

DOOR = "/run/sidecar/door"


async def answer(daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of one client."""
    request = json.loads(await reader.readline())
    begun = asyncio.get_running_loop().time()
    told = await carry_out(daemon, request)
    told["took_s"] = asyncio.get_running_loop().time() - begun
    writer.write(json.dumps(told).encode() + b"\n")
    await writer.drain()
    writer.close()


async def carry_out(daemon: Daemon, request: dict[str, Any]) -> dict[str, Any]:
    uuid, message, channel = UUID(request["uuid"]), request["message"], request["channel"]
    try:
        if request["arguments"] is None:
            refusal = daemon.host.can_send(uuid, message, channel)
            return {"refused": refusal and refusal.code, "why": str(refusal)}
        result = await daemon.host.send(uuid, message, request["arguments"], request["timeout_s"], channel)
    except MessageNotAllowedError as error:
        return {"refused": error.refusal.code, "why": str(error)}
    except SidecarError as error:
        return {"error": type(error).__name__, "why": str(error)}
    return {"result": result}


async def serve(path: Path) -> None:
    configuration = load_configuration(path)
    systemd.configure_logging(configuration.log.level)
    daemon = Daemon(configuration, path)
    async with await asyncio.start_unix_server(partial(answer, daemon), DOOR):
        await daemon.run()
    daemon.wait_stopped()


if __name__ == "__main__":
    Path(DOOR).parent.mkdir(exist_ok=True)
    Path(DOOR).unlink(missing_ok=True)
    asyncio.run(serve(Path(sys.argv[2])))
