"""Starts a program as confined as a systemd unit says, without systemd: ``confined.py UNIT PROGRAM [ARGUMENT...]``.

What systemd would do, as far as a program can tell: file systems, devices, capabilities, system calls. cgroups
(MemoryMax, TasksMax), keyrings and the rest of the unit are left out. What a unit of ours does not use is not here:
a directive that nobody knows here is an error, so that none is believed to be tried.
"""

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab import seccomp
from tests.systemd_unit import Directives, allowed_calls, capability_numbers, read_directives

_LIBC = ctypes.CDLL(None, use_errno=True)

_CLONE_NEWNS, _CLONE_NEWUTS = 0x20000, 0x4000000
_MS_NOSUID, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 8, 0x1000, 0x4000, 0x80000
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# Each is tried here, or told above as left out, or says nothing of what a program may do.
_TRIED = {
    "RuntimeDirectory": "sidecar",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "read-only",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelTunables": "yes",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
    **seccomp.TRIED,
}
_WITH_VALUES = {"CapabilityBoundingSet", "SystemCallFilter", "RestrictAddressFamilies"}
_LEFT_OUT = {"StateDirectory", "StateDirectoryMode", "LimitNOFILE", "MemoryMax", "TasksMax", "KeyringMode"}
_NO_LIMITS = {
    "Type",
    "ExecStart",
    "ExecReload",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "KillMode",
    "RuntimeDirectoryPreserve",
}


def main(unit: str, *program: str) -> None:
    """Become the program; see the module."""
    directives = read_directives(Path(unit))
    _require_known(directives)
    # Asked before anything is taken away.
    kept = capability_numbers(directives["CapabilityBoundingSet"][0].split())
    calls = allowed_calls(directives["SystemCallFilter"])
    os.umask(0o077)
    _confine_files([f"/run/{name}" for name in directives["RuntimeDirectory"]])
    _drop_capabilities(kept)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    seccomp.confine(calls, directives["RestrictAddressFamilies"][0].split())
    os.execv(program[0], program)


def _require_known(directives: Directives) -> None:
    unknown = directives.keys() - _TRIED.keys() - _WITH_VALUES - _LEFT_OUT - _NO_LIMITS
    others = {name for name, value in _TRIED.items() if directives.get(name) != [value]}
    if unknown or others:
        raise SystemExit(f"confined.py does not know {sorted(unknown)}, and knows another value of {sorted(others)}")


def _confine_files(writable: Sequence[str]) -> None:
    """ProtectSystem=strict and what goes with it: all is read-only but ``writable``, which is made."""
    _call("unshare", _CLONE_NEWNS | _CLONE_NEWUTS)
    _mount("none", "/", _MS_REC | _MS_SLAVE)
    for path in writable:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)
    for path in (*writable, "/proc/sys"):
        _mount(path, path, _MS_BIND | _MS_REC)
    _confine_devices()
    _set_read_only(["/"])
    _set_read_only([*writable, "/dev", "/proc"], on=False)
    _set_read_only(["/proc/sys"])


def _confine_devices() -> None:
    """PrivateDevices: those that are nobody's hardware."""
    kept = {name: os.open(f"/dev/{name}", os.O_PATH) for name in _DEVICES}
    _mount("tmpfs", "/dev", _MS_NOSUID | _MS_NOEXEC, "tmpfs")
    for name, node in kept.items():
        Path("/dev", name).touch()
        _mount(f"/proc/self/fd/{node}", f"/dev/{name}", _MS_BIND)
        os.close(node)


def _drop_capabilities(kept: Iterable[int]) -> None:
    """For this process and all that come of it; exec gives root what is left."""
    for number in set(range(int(_LAST_CAPABILITY.read_text()) + 1)) - set(kept):
        _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)


def _mount(source: str, target: str, flags: int, kind: str | None = None) -> None:
    _call("mount", source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), None)


def _set_read_only(paths: Iterable[str], *, on: bool = True) -> None:
    """These mounts and those below them."""
    bits = (_MOUNT_ATTR_RDONLY, 0) if on else (0, _MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(*bits, 0, 0)
    for path in paths:
        given = (_AT_FDCWD, path.encode(), _AT_RECURSIVE, attributes, ctypes.c_size_t(32))
        _call("syscall", ctypes.c_long(_SYS_MOUNT_SETATTR), *given)


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}", str(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
