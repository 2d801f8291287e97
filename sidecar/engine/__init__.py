"""The asyncio part: one ``Host``, one ``Domain`` object a domain, one ``Stay`` a QEMU process, one ``Channel`` a port.

The engine decides everything and touches nothing: libvirt, sockets and the spool are behind the Protocols of
``ports``. Each task has an owner; what goes wrong in one domain ends that domain's tasks alone.
"""
