"""What the agent tells about its guest: for each message of the oVirt dialect its arguments, as they go on the wire.

Everything is looked up when it is asked for, and asking may take seconds (a container engine, ``rpm``), never longer
than the limits say: it belongs into a thread of its own. Texts are cleaned as VDSM does it, lists and texts are
bounded, so that every message stays one line that every host reads. What cannot be looked up is one ``ReportError``;
a part that others in the guest can spoil, such as one mount point or one container, is left out alone.

* ``collection``: ``Reports``, the one door, and ``Sources``, what an administrator chooses.
* ``memory``: heartbeat and memory-stats. ``host_names``: host-name and fqdn. ``operating_system``: os-version, os-info
  and number-of-cpus. ``time_zone``: timezone. ``network``: network-interfaces. ``disks``, ``mounts``: disks-usage.
  ``packages``: applications. ``sessions``: active-user, and whether its session is locked. ``containers`` and
  ``guest_tools``: the messages of that name.
* ``bounds``: how much a report may hold. ``system_files``, ``streams``, ``child_output``: reading files, sockets and
  programs that may be large, slow or without an end.

Files are read below a root directory, ``/`` unless a test gives another; programs are found on ``PATH``. Heavy modules
are imported where they are needed: the whole agent has 25 MB.

Source: docs/protocol.md; shapes and units are those of oVirt guest agent 1.0.16.
"""

from sidecar.guest.reports.collection import Reports, Sources

__all__ = ["Reports", "Sources"]
