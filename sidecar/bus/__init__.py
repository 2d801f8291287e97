"""The message bus: oslo.messaging over RabbitMQ, in a process beside the daemon, and in ``sidecarctl --host``.

Nothing else here imports it, and it imports nothing of the engine: the daemon and the process talk over a pipe
(``api.link``), so that a broker that is down, slow or hung costs the daemon nothing. ``oslo`` is the one module that
says how oslo.messaging is set up; docs/bus.md is what operators read.
"""
