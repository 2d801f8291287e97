"""The wire protocols between host and guest agent, pure: bytes and times in, events and bytes out.

No module here knows a socket, a clock, a file, a thread or a log. ``versions``, ``framing``, ``budget`` and
``ovirt_messages`` import the standard library alone, since the guest's agent ships them too; ``ovirt_host`` is
the host's end and validates with msgspec.
"""
