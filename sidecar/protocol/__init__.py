"""The wire protocols between host and guest agent, pure: bytes and times in, events and bytes out.

No module here knows a socket, a clock, a file, a thread or a log.

* ``versions``: what a version, an offer and a cap are, and what two ends have in common.
* ``framing``: the lines of a byte stream.
* ``ovirt_messages``: the message table of the oVirt dialect.
* ``budget``: how often something may happen.
* ``states``: what a channel can be in, and every legal move.
* ``settling``: which of these states go on record at once.
* ``ovirt_reader``: what an agent says, validated with msgspec.
* ``ovirt_host``: the host's end of the negotiation.

All but the last two import the standard library alone, so that the guest's agent can ship them, too.
"""
