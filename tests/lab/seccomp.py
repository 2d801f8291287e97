"""System call filters as systemd makes them of a unit's directives, by libseccomp, which QEMU and systemd bring along.

Source: systemd.exec(5); systemd's ``src/shared/seccomp-util.c`` for what each directive forbids; seccomp_rule_add(3).
"""

import ctypes
import errno
import socket
from collections.abc import Iterable

TRIED = {
    "ProtectClock": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
}
"""The directives that are filters and have no values of their own."""

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL, _AT_LEAST, _MASKED_EQUAL = 4, 5, 7

_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 2, 4, 0o100000
_SUID, _SGID = 0o4000, 0o2000
_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)

# No address family is above it.
_FAMILIES_LIMIT = 64

# Where each takes its mode, its protection or its flags.
_MODES = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
_EXECUTABLE = {"mprotect": _PROT_EXEC, "pkey_mprotect": _PROT_EXEC, "shmat": _SHM_EXEC}
_MIGHTY = ("personality", "sched_setscheduler", "sched_setattr", "setns", "syslog", "clock_settime", "init_module")


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """One filter; of several the strictest answer counts."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def answer(self, action: int, call: str, *comparisons: _Comparison) -> None:
        """What becomes of a call with such arguments; one that this machine does not have is passed over."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        array = (_Comparison * len(comparisons))(*comparisons)
        add = self._library.seccomp_rule_add_array
        _require(add(self._context, ctypes.c_uint32(action), number, len(comparisons), array))

    def load(self) -> None:
        """It holds from now on, for all that this process becomes and starts."""
        _require(self._library.seccomp_load(self._context))


def confine(calls: Iterable[str], families: Iterable[str]) -> None:
    """Allow these calls alone, sockets of these families alone, and nothing that ``TRIED`` forbids."""
    forbidden = _Filter(_ALLOW)
    _forbid_families(forbidden, {getattr(socket, family) for family in families})
    _forbid_executable_memory(forbidden)
    _forbid_namespaces(forbidden)
    for call, place in _MODES.items():
        for bit in (_SUID, _SGID):
            forbidden.answer(_ERRNO | errno.EPERM, call, _Comparison(place, _MASKED_EQUAL, bit, bit))
    for call in _MIGHTY:
        forbidden.answer(_ERRNO | errno.EPERM, call)
    allowed = _Filter(_ERRNO | errno.EPERM)
    for call in calls:
        allowed.answer(_ALLOW, call)
    allowed.answer(_ALLOW, "seccomp")  # for the other filter: systemd's come in one go
    allowed.load()
    forbidden.answer(_ERRNO | errno.EPERM, "seccomp")
    forbidden.load()


def _forbid_families(forbidden: _Filter, families: Iterable[int]) -> None:
    answer = _ERRNO | errno.EAFNOSUPPORT
    for family in set(range(_FAMILIES_LIMIT)) - set(families):
        forbidden.answer(answer, "socket", _Comparison(0, _EQUAL, family, 0))
    forbidden.answer(answer, "socket", _Comparison(0, _AT_LEAST, _FAMILIES_LIMIT, 0))


def _forbid_executable_memory(forbidden: _Filter) -> None:
    both = _PROT_WRITE | _PROT_EXEC
    forbidden.answer(_ERRNO | errno.EPERM, "mmap", _Comparison(2, _MASKED_EQUAL, both, both))
    for call, bit in _EXECUTABLE.items():
        forbidden.answer(_ERRNO | errno.EPERM, call, _Comparison(2, _MASKED_EQUAL, bit, bit))


def _forbid_namespaces(forbidden: _Filter) -> None:
    for bit in _NAMESPACES:
        for call in ("clone", "unshare"):
            forbidden.answer(_ERRNO | errno.EPERM, call, _Comparison(0, _MASKED_EQUAL, bit, bit))
    # Its flags lie in memory: glibc takes clone instead.
    forbidden.answer(_ERRNO | errno.ENOSYS, "clone3")


def _require(code: int) -> None:
    if code < 0:
        raise OSError(-code, "libseccomp")
