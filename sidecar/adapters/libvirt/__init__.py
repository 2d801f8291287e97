"""Libvirt: the one package that imports it.

libvirt's event loop runs in a thread of its own, registered before the connection is opened (keepalive needs that);
its callbacks hand small values over with ``call_soon_threadsafe``. Calls run in bounded pools, off the loop: reads and
writes apart, so that writes caught behind somebody's job never keep us from looking, and calls to guests' agents apart.

After a reconnect nothing old is used: every call looks its domain up anew, and callbacks of an old connection are
told by its number and dropped.

* ``connection``: the event thread, and the connection with its pools.
* ``events``: what libvirt's events and states are in the engine's words.
* ``agent_calls``: commands to guests' agents, each over a connection of its own.
* ``visitor``: the same without events, for a program that looks once.
* ``calls``: the blocking calls, and what libvirt's errors are in ours.
"""

from sidecar.adapters.libvirt.connection import EventThread, Libvirt
from sidecar.adapters.libvirt.visitor import Visitor

__all__ = ["EventThread", "Libvirt", "Visitor"]
