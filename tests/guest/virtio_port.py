"""A virtio port as ``open``, ``read`` and ``write`` show it, for what no other file does: no host, and unplugged.

Source: Linux, drivers/char/virtio_console.c (port_fops_read, port_fops_write, port_fops_poll).
"""

import errno
import os
import select
from io import FileIO
from typing import Any

import pytest

from sidecar.guest import port as port_module


class VirtioPort:
    """Stands in for ``os`` in the port's module, where it serves one descriptor; the rest is the real one's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host_here = self.plugged = True
        self.inbox = b""
        self.room_bytes = 1 << 20
        self.taken = b""
        self.opened = 0
        monkeypatch.setattr(port_module, "os", self)
        monkeypatch.setattr(port_module, "open_end", self.open_end)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open_end(self, path: str) -> FileIO:
        if not self.plugged:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self.opened += 1
        return FileIO(os.eventfd(0), "r+")

    def read(self, _fd: int, size: int) -> bytes:
        if not self.plugged:
            raise OSError(errno.ENODEV, "No such device")
        if not self.inbox and self.host_here:
            raise BlockingIOError
        data, self.inbox = self.inbox[:size], self.inbox[size:]
        return data

    def write(self, _fd: int, data: bytes) -> int:
        if not self.plugged:
            raise OSError(errno.ENODEV, "No such device")
        if not self.host_here or not self.room_bytes:
            raise BlockingIOError
        data = data[: self.room_bytes]
        self.room_bytes -= len(data)
        self.taken += data
        return len(data)

    def events(self) -> int:
        """What epoll tells."""
        if not self.plugged:
            return select.EPOLLHUP
        readable = select.EPOLLIN if self.inbox or not self.host_here else 0
        writable = select.EPOLLOUT if self.host_here and self.room_bytes else 0
        return readable | writable | (0 if self.host_here else select.EPOLLHUP)
