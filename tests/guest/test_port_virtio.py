"""What only a virtio port does: no host at its other end, hosts that come and go, and unplugged."""

import select
from collections.abc import Iterator

import pytest

from sidecar.guest.port import Port, Presence
from tests.guest.virtio_port import VirtioPort


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> VirtioPort:
    return VirtioPort(monkeypatch)


@pytest.fixture
def port(device: VirtioPort) -> Iterator[Port]:
    with select.epoll() as epoll:
        port = Port(["/dev/virtio-ports/any"], epoll)
        yield port
        port.close()


def look(port: Port, device: VirtioPort) -> bytes:
    data = port.receive(device.events())
    port.flush()
    return data


def test_without_a_host_it_is_there_and_alone(port: Port, device: VirtioPort) -> None:
    device.host_here = False
    assert port.open()
    assert port.presence is Presence.ALONE
    assert look(port, device) == b""
    assert (port.presence, port.sendable) == (Presence.ALONE, False)
    device.host_here = True
    assert look(port, device) == b""
    assert (port.presence, port.sendable) == (Presence.HOST, True)
    device.host_here = False
    assert look(port, device) == b""
    assert (port.presence, device.opened) == (Presence.ALONE, 1)


def test_a_host_that_left_has_its_words_heard(port: Port, device: VirtioPort) -> None:
    assert port.open()
    look(port, device)
    device.inbox, device.host_here = b"last words", False
    assert look(port, device) == b"last words"
    assert port.presence is Presence.ALONE
    assert look(port, device) == b""


def test_the_next_host_gets_no_half_line(port: Port, device: VirtioPort) -> None:
    assert port.open()
    look(port, device)
    device.room_bytes = 4
    port.write(b"first line\n")
    assert (device.taken, port.sendable) == (b"firs", False)
    device.host_here = False
    look(port, device)
    device.host_here, device.room_bytes = True, 100
    look(port, device)
    assert port.sendable
    port.write(b"second\n")
    port.write(b"third\n")
    assert device.taken == b"firs\nsecond\nthird\n"


def test_a_host_that_left_unnoticed_takes_nothing(port: Port, device: VirtioPort) -> None:
    assert port.open()
    look(port, device)
    device.host_here = False
    port.write(b"line\n")
    assert (device.taken, port.presence, port.sendable) == (b"", Presence.HOST, False)
    look(port, device)
    assert port.presence is Presence.ALONE


@pytest.mark.parametrize("found_by", ["read", "write"])
def test_an_unplugged_port_is_opened_anew_and_ends_its_line(found_by: str, port: Port, device: VirtioPort) -> None:
    assert port.open()
    look(port, device)
    device.room_bytes = 4
    if found_by == "read":
        port.write(b"first line\n")
        device.plugged = False
        assert look(port, device) == b""
    else:
        port.write(b"firs")
        device.plugged = False
        port.write(b"t line\n")
    assert (port.fd, port.presence, port.sendable) == (-1, Presence.CLOSED, False)
    assert not port.open()
    device.plugged, device.room_bytes = True, 100
    assert port.open()
    look(port, device)
    port.write(b"second\n")
    assert device.taken == b"firs\nsecond\n"
