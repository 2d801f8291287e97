"""In the guest: names for the virtio-serial ports, which udev would give elsewhere."""

import os
import socket

PORTS = "/dev/virtio-ports"
_SYSFS = "/sys/class/virtio-ports"
_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1


def listen() -> socket.socket:
    """A socket that becomes readable whenever the kernel adds, names or removes a device."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_KOBJECT_UEVENT)
    events.bind((0, _KERNEL_GROUP))
    events.setblocking(False)
    return events


def drain(events: socket.socket) -> None:
    """Forgets the events that are waiting: any of them only means "look again"."""
    try:
        while events.recv(65536):
            pass
    except OSError:
        pass


def link_ports() -> set[str]:
    """Makes /dev/virtio-ports show exactly the ports that have a name now, and returns those names."""
    os.makedirs(PORTS, exist_ok=True)
    named = {}
    for device in os.listdir(_SYSFS):
        name = _read_name(device)
        if name:
            named[name] = device
    for stale in set(os.listdir(PORTS)) - set(named):
        os.unlink(f"{PORTS}/{stale}")
    for name, device in named.items():
        if not os.path.lexists(f"{PORTS}/{name}"):
            os.symlink(f"../{device}", f"{PORTS}/{name}")
    return set(named)


def _read_name(device: str) -> str:
    """A port has no name file until the host has told its name."""
    try:
        with open(f"{_SYSFS}/{device}/name", encoding="utf-8") as name:
            return name.read().strip()
    except OSError:
        return ""
