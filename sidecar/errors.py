"""Every error of this project, with the blame in its type.

    SidecarError                     carries a stable problem code, see docs/problems.md
    ├── MisuseError                  our caller (or operator) asked for something that cannot be
    │   ├── ConfigurationError       the configuration file is wrong: file, key, expectation
    │   ├── MessageNotAllowedError   the message table refuses this message at this version
    │   └── HookConflictError        a file that we did not write stands where the hook should go
    ├── TransportError               a guest-agent channel's socket
    │   ├── ChannelUnreachableError  nothing answers at the path
    │   └── ForeignSocketError       something answers, but it is not that domain's QEMU
    └── HypervisorError              libvirt failed: the call did not happen
        ├── HypervisorDownError      no connection to libvirt at the moment
        ├── DomainGoneError          the domain does not exist, or runs no more
        └── JobHeldError             another job holds the domain

A guest's bad input is no exception: it becomes an event of the session (``protocol.ovirt_host``), so that
no byte a guest sends can raise into the engine.
"""


class SidecarError(Exception):
    """Base of all errors here; ``code`` is the stable problem code that users and programs see."""

    code = "internal"


class MisuseError(SidecarError):
    """The caller or the operator asked for something that cannot be done."""

    code = "misuse"


class ConfigurationError(MisuseError):
    """The configuration is wrong; the text names file, key and what was expected."""

    code = "configuration"


class MessageNotAllowedError(MisuseError):
    """The message table does not let this message go at the version in force; nothing was sent."""

    code = "message-not-allowed"


class HookConflictError(MisuseError):
    """Another program's file stands where our hook should go; it was left alone."""

    code = "hook-conflict"


class TransportError(SidecarError):
    """The socket of a guest-agent channel failed."""

    code = "socket-unreachable"


class ChannelUnreachableError(TransportError):
    """Nothing that serves the channel answers at its path."""


class ForeignSocketError(TransportError):
    """The process behind the socket is not the domain's QEMU; the connection was closed unused."""

    code = "socket-foreign"


class HypervisorError(SidecarError):
    """Libvirt refused or failed; what was asked for did not happen."""

    code = "libvirt"


class HypervisorDownError(HypervisorError):
    """There is no connection to libvirt at the moment; nothing was asked."""

    code = "libvirt-down"


class DomainGoneError(HypervisorError):
    """The domain does not exist any more, or is not active."""

    code = "domain-gone"


class JobHeldError(HypervisorError):
    """Another job holds the domain, so libvirt did not do it."""

    code = "job-held"
