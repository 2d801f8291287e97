"""The outside systems, one module each: libvirt, channel sockets, the spool, systemd.

An adapter implements a Protocol of ``engine.ports`` or feeds notices to the engine, and translates the foreign
errors at the call.
"""
