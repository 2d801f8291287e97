"""Every error of this project, with the blame in its type.

    SidecarError
    ├── MisuseError                  our caller (or operator) asked for something that cannot be
    │   ├── ConfigurationError       the configuration file is wrong: file, key, expectation
    │   ├── MessageNotAllowedError   the message table refuses this message at this version
    │   └── HookConflictError        a file that we did not write stands where the hook should go
    ├── TransportError               a guest-agent channel's socket
    │   ├── ChannelUnreachableError  nothing answers at the path
    │   └── ForeignSocketError       something answers, but it is not that domain's QEMU
    └── HypervisorError              libvirt refused or failed: unless a kind says otherwise, it did not happen
        ├── HypervisorDownError      no connection to libvirt at the moment
        ├── DomainGoneError          the domain does not exist, or runs no more
        ├── JobHeldError             another job holds the domain
        ├── OutcomeUnknownError      nobody knows whether it happened
        └── RecordChangedError       the record was written, and somebody else has changed it already

A guest's bad input is no exception: it becomes an event of the session (``protocol.ovirt_reader``), so that
no byte a guest sends can raise into the engine.
"""


class SidecarError(Exception):
    """Base of all errors here."""


class MisuseError(SidecarError):
    """The caller or the operator asked for something that cannot be done."""


class ConfigurationError(MisuseError):
    """The configuration is wrong; the text names file, key and what was expected."""


class MessageNotAllowedError(MisuseError):
    """The message table does not let this message go at the version in force; nothing was sent."""


class HookConflictError(MisuseError):
    """Another program's file stands where our hook should go; it was left alone."""


class TransportError(SidecarError):
    """The socket of a guest-agent channel failed."""


class ChannelUnreachableError(TransportError):
    """Nothing that serves the channel answers at its path."""


class ForeignSocketError(TransportError):
    """The process behind the socket is not the domain's QEMU; the connection was closed unused."""


class HypervisorError(SidecarError):
    """Libvirt refused or failed; unless the kind says otherwise, what was asked for did not happen."""


class HypervisorDownError(HypervisorError):
    """There is no connection to libvirt at the moment; nothing was changed."""


class DomainGoneError(HypervisorError):
    """The domain does not exist any more, or is not active."""


class JobHeldError(HypervisorError):
    """Another job holds the domain, so libvirt did not do it."""


class OutcomeUnknownError(HypervisorError):
    """Libvirt gave no answer: it may have happened or not, or may happen later.

    What was asked for may be asked for again: reading changes nothing, and writing a record twice is writing it once.
    """


class RecordChangedError(HypervisorError):
    """Our record was written, and read back differently: somebody else has changed it already."""
