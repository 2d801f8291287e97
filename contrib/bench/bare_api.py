"""The bare counterpart of the API: aiohttp on a unix socket, and one handler that returns the bytes of a file."""

import asyncio
import socket
import sys
from pathlib import Path

from aiohttp import web

path, body = sys.argv[1], Path(sys.argv[2]).read_bytes()


async def show(_request: web.Request) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def serve() -> None:
    app = web.Application()
    app.router.add_get("/v1/domains/{domain}", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    await web.SockSite(runner, listener).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(serve())
