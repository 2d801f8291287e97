"""The agent inside a guest: the oVirt dialect's other end, and guest tools that say what they are.

It needs Debian's python3 and psutil, and of this project ``sidecar.protocol``'s pure modules alone.

* ``main``: the command line; ``configuration``: the file.
* ``agent``: the loop that ties everything together, one thread that never waits for anything but ``epoll``.
* ``port``: the device or socket, with or without a host at its other end.
* ``facts``: what there is to tell; ``schedule``: what is due when; ``collector``: the one thread that looks things up;
  ``reports``: what there is.
* ``commands``: what a host may have done in the guest; ``hooks``: what runs at a lifecycle event; ``programs``: child
  processes with a time limit. ``log_limit``: how much of it goes into the log.

The protocol itself is ``sidecar.protocol.ovirt_agent``.
"""
