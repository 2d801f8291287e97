"""The wire protocols between host and guest agent, pure: bytes and times in, events and bytes out.

No module here knows a socket, a clock, a file, a thread or a log.

* ``versions``: what a version, an offer and a cap are, and what two ends have in common.
* ``framing``: the lines of a byte stream.
* ``ovirt_messages``: the message table of the oVirt dialect.
* ``budget``: how often something may happen.
* ``bad_input``: what either end says of bytes that it cannot use. ``guest_text``: text that a guest chose, made fit.
* ``states``: what a channel can be in, and every legal move.
* ``settling``: which of these states go on record at once.
* ``ovirt_reader``: what an agent says, validated with msgspec.
* ``ovirt_outbox``: what the host has to write to one oVirt channel.
* ``ovirt_host``: the host's end of the negotiation. ``ovirt_agent``: the guest's end of it, for our own agent.
* ``tools``: versions of guest tools, and the verdict on them. ``ovirt_tools``: what the oVirt dialect tells of them.
* ``qga_…``: the QGA dialect.

What the guest's agent ships imports the standard library alone; ``pyproject.toml`` lists it.
"""
