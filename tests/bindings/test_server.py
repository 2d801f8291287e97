"""Both sockets: who may come in, and what is there before and after."""

import asyncio
import os
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.bindings.server import GRACE_S
from sidecar.config import LimitsSection
from sidecar.errors import ConfigurationError
from tests.bindings.rig import Rig, connected, get

NOBODY = 65534


async def test_makes_both_sockets_and_removes_them(tmp_path: Path) -> None:
    async with Rig(tmp_path / "run").running() as rig:
        assert [stat.S_IMODE(os.stat(path).st_mode) for path in (rig.full, rig.readonly)] == [0o660, 0o666]
    assert not os.listdir(tmp_path / "run")


@pytest.mark.parametrize(("name", "key"), [("api.sock", "api.socket"), ("api-ro.sock", "api.readonly_socket")])
async def test_when_one_socket_cannot_be_neither_is_there(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / name).write_text("precious")
    rig = Rig(tmp_path)
    with pytest.raises(ConfigurationError, match=f"^{key}: {tmp_path / name}: something that is no socket"):
        await rig.server.start()
    assert os.listdir(tmp_path) == [name]
    await rig.server.close()


async def test_one_path_for_both_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, readonly_name="api.sock")
    with pytest.raises(ConfigurationError, match="another program serves it"):
        await rig.server.start()
    assert not os.listdir(tmp_path)


async def test_stops_within_a_second_whatever_is_open(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    begun = asyncio.Event()

    async def hold() -> None:
        begun.set()
        await asyncio.Event().wait()

    rig.operations.hold = hold
    async with (
        rig.running(),
        connected(rig.full) as stream,
        connected(rig.readonly) as silent,
        connected(rig.full) as held,
        connected(rig.full) as half,
    ):
        await stream.send(get("/v1/events"))
        await stream.read_until(b"\r\n\r\n")
        await held.send(get("/v1/host"))
        await half.send(b"GET ")
        await begun.wait()
        begin = time.monotonic()
        await rig.server.close()
        assert time.monotonic() - begin < 1
        assert await stream.read_rest() == b"0\r\n\r\n"  # the end of a chunked body: nothing was cut off
        assert [await client.read_rest() for client in (silent, held, half)] == [b"", b"", b""]


async def test_stops_soon_when_only_streams_and_idle_connections_are_open(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running(), connected(rig.full) as stream, connected(rig.full):
        await stream.send(get("/v1/events"))
        await stream.read_until(b"\r\n\r\n")
        begin = time.monotonic()
        await rig.server.close()
        assert time.monotonic() - begin < GRACE_S


async def test_a_request_under_way_may_end_while_the_server_stops(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await may_end.wait()

    rig.operations.hold = hold
    async with rig.running(), connected(rig.full) as client:
        await client.send(get("/v1/host"))
        await begun.wait()
        closing = asyncio.create_task(rig.server.close())
        await asyncio.sleep(0)
        may_end.set()
        assert (await client.read_answer())[0] == 200
        await closing


async def test_a_subscriber_that_never_reads_does_not_hold_up_the_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running(), connected(rig.full) as client:
        await client.send(get("/v1/events"))
        await client.read_until(b"\r\n\r\n")
        for number in range(1000):
            rig.operations.events_log.publish("left", f"vm{number}", text="x" * 1000)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        begin = time.monotonic()
        await rig.server.close()
        assert time.monotonic() - begin < 1


async def test_nobody_is_let_in_while_it_stops(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        await rig.server.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, pytest.raises(FileNotFoundError):
            client.connect(str(rig.full))


# Another user.

CLIENT = """
import http.client, json, os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
path, method, address = sys.argv[1:]
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
try:
    connection.sock.connect(path)
except PermissionError:
    print("EACCES")
else:
    connection.request(method, address)
    answer = connection.getresponse()
    print(answer.status, json.loads(answer.read())["code"] if answer.status != 200 else "")
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that every user may look into."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


async def ask_as_nobody(path: Path, method: str, address: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(path), method, address, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
async def test_another_user_may_read_and_nothing_else(open_directory: Path) -> None:
    rig = Rig(open_directory)
    async with rig.running():
        assert await ask_as_nobody(rig.full, "GET", "/v1/domains") == "EACCES"
        assert await ask_as_nobody(rig.readonly, "GET", "/v1/domains") == "200"
        assert await ask_as_nobody(rig.readonly, "GET", "/metrics") == "200"
        assert await ask_as_nobody(rig.readonly, "GET", "/v1/domains/vm1/guest") == "403 forbidden"
        assert await ask_as_nobody(rig.readonly, "POST", "/v1/domains/vm1/renegotiate") == "403 forbidden"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
async def test_one_user_cannot_use_up_what_another_may_have(open_directory: Path) -> None:
    rig = Rig(open_directory, readonly_connections_per_uid=1)
    async with rig.running(), connected(rig.readonly) as ours:
        await ours.send(get("/v1/domains"))
        assert (await ours.read_answer())[0] == 200
        assert await ask_as_nobody(rig.readonly, "GET", "/v1/domains") == "200"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
async def test_the_log_says_who_changed_what(open_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with Rig(open_directory).running() as rig:
        os.chmod(rig.full, 0o666)
        assert await ask_as_nobody(rig.full, "POST", "/v1/domains/vm1/renegotiate") == "200"
    assert f"renegotiate vm1 for uid {NOBODY}, pid " in caplog.text


def test_the_defaults_leave_room_for_several_users() -> None:
    limits = LimitsSection()
    assert limits.connections_per_uid * 2 <= limits.connections
    assert limits.readonly_connections_per_uid * 2 <= limits.readonly_connections
