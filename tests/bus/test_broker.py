"""The tests' own broker does what its methods say, and the commands of docs/bus.md work on it as they stand there."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import amqp
import psutil
import pytest

from tests.broker import Broker
from tests.bus.permissions import read_commands, read_permissions
from tests.certificates import make_certificates
from tests.lab.waiting import wait_for
from tests.places import Here

pytestmark = pytest.mark.thorough

TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A second node beside the worker's, with nothing in it."""
    node = Broker(tmp_path_factory.mktemp("own-broker"))
    try:
        node.start()
        yield node
    finally:
        node.kill()
        node.stop()


def connect(node: Broker) -> amqp.Connection:
    """A connection of the operator's."""
    parts = urlsplit(node.url())
    address = f"{parts.hostname}:{parts.port}"
    times = {"connect_timeout": 2, "read_timeout": 2}
    connection = amqp.Connection(address, parts.username, parts.password, virtual_host="sidecar", **times)
    connection.connect()
    return connection


@pytest.mark.long
def test_what_is_durable_outlives_a_kill(own: Broker) -> None:
    with connect(own) as connection:
        channel = connection.channel()
        channel.queue_declare("kept", durable=True, auto_delete=False)
        channel.basic_publish_confirm(amqp.Message("x", delivery_mode=2), exchange="", routing_key="kept")
    own.kill()
    with pytest.raises(ConnectionRefusedError):
        connect(own)
    own.start()
    assert own.queues() == {"kept": 1}


@pytest.mark.long
def test_a_paused_node_accepts_and_says_nothing(own: Broker) -> None:
    own.pause()
    try:
        with pytest.raises(socket.timeout):
            connect(own)
    finally:
        own.resume()
    connect(own).close()


@pytest.mark.parametrize(
    ("name", "has_ca", "said"),
    [
        ("127.0.0.1", True, ""),
        ("127.0.0.1", False, "certificate verify failed"),
        ("localhost", True, "Hostname mismatch"),
    ],
    ids=["right", "another authority", "another name"],
)
def test_the_certificate_is_checked(broker: Broker, tmp_path: Path, name: str, has_ca: bool, said: str) -> None:
    """With the options of docs/bus.md; in a process of its own, since they are the process's."""
    assert broker.certificates is not None
    ca = broker.certificates.ca if has_ca else make_certificates(tmp_path / "other", "127.0.0.1").ca
    options = {"ssl": True, "ssl_ca_file": str(ca)}
    url = broker.url(tls=True).replace(broker.address, name)
    program = f"from sidecar.bus.caller import Caller; Caller('sidecar', {url!r}, {options}).connect()"
    done = Here().run([sys.executable, "-W", "ignore", "-c", program], check=False)
    assert (done.returncode == 0) == (not said)
    assert said in done.stderr


@pytest.mark.long
def test_the_commands_of_the_document_work(own: Broker) -> None:
    """As an operator types them; ``add_user`` asks for a password there, and is given one here."""
    own.control("add_user", "guest", "guest")  # as a fresh RabbitMQ has it
    for command in read_commands():
        if command != ["add_vhost", "sidecar"]:  # the node has it from its beginning
            own.control(*command, *(["secret"] if command[0] == "add_user" else []))
    for user, (vhost, permissions) in read_permissions().items():
        expected = [user, permissions.configure, permissions.write, permissions.read]
        rows = own.control("list_permissions", "--no-table-headers", "-p", vhost).splitlines()
        assert expected in [row.replace("\\\\", "\\").split("\t") for row in rows]


@pytest.mark.long
def test_nothing_is_left(tmp_path: Path) -> None:
    node = Broker(tmp_path)
    before = {process.pid for process in psutil.process_iter()}
    node.start()
    try:
        mine = [process for process in psutil.process_iter() if process.pid not in before and is_of(process, node)]
        assert {"beam.smp", "epmd"} <= {process.name() for process in mine}
    finally:
        node.stop()
    wait_for(lambda: not any(is_alive(process) for process in mine), TIMEOUT_S, "the node's processes to end")
    with socket.socket() as client:
        assert client.connect_ex((node.address, node.port)) != 0


def is_of(process: psutil.Process, node: Broker) -> bool:
    """Whether it is the node's, by what it was started with."""
    try:
        return process.environ().get("RABBITMQ_NODENAME") == node.node
    except psutil.Error:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Runs; one that nobody has waited for does not."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
