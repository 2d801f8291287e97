"""What the doctor looks at that is no domain's: the hook and what it needs, libvirt having seen it, daemon and sockets.

Blocking calls; whoever has an event loop makes them in a thread. Each fault carries its code of docs/problems.md and an
advice whose commands stand in backticks.
"""

import contextlib
import grp
import os
import shlex
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters.bus_checks import check_passwords
from sidecar.adapters.hook_file import NAME, HookState, judge, render_hook
from sidecar.adapters.hook_loading import PROC, RUN, find_libvirt, is_hook_loaded
from sidecar.adapters.hook_setup import find_helper_problem, find_paths, report_spool
from sidecar.api.views import FindingView
from sidecar.config import ApiSection
from sidecar.engine.doctor import Examination
from sidecar.engine.remedies import FindingCode
from sidecar.errors import ConfigurationError

HOOKS_DIRECTORY = Path("/etc/libvirt/hooks")
"""Where libvirt looks for hooks."""

LOCK_NAME = "sidecard.lock"
"""The file in its state directory that a running sidecard holds a lock on."""


@dataclass(frozen=True, slots=True)
class HookPlaces:
    """Where the hook and what belongs to it are; ``configuration`` is the daemon's file, ``None`` the default one."""

    hooks_directory: Path
    configuration: Path | None
    state: Path
    run: Path = RUN
    proc: Path = PROC


def check_all(places: HookPlaces, api: ApiSection) -> Examination:
    """What a daemon that runs wants to know of its host."""
    hook, sockets = check_hook(places), check_sockets(api)
    return Examination(hook.checked + sockets.checked, hook.findings + sockets.findings)


def report_libvirt(uri: str, problem: str) -> Examination:
    """Libvirt cannot be asked."""
    advice = "start libvirt: `systemctl start libvirtd` (or virtqemud); where it hangs, `systemctl restart libvirtd`"
    fault = _fault(FindingCode.LIBVIRT_UNAVAILABLE, f"libvirt ({uri}) does not serve us: {problem}", advice)
    return Examination((f"libvirt {uri}",), (fault,))


def check_hook(places: HookPlaces) -> Examination:
    """The configuration as it is now, and by it the hook's file, libvirt having seen it, the spool and the helper."""
    try:
        paths = find_paths(places.configuration)
        passwords = check_passwords(places.configuration)
    except ConfigurationError as error:
        advice = "mend the file; `sidecard --check-config` says whether it is right (with --config, as sidecard has it)"
        return Examination(("configuration",), (_fault(FindingCode.CONFIGURATION_BROKEN, str(error), advice),))
    target = places.hooks_directory / "qemu.d" / NAME
    state = judge(target, render_hook(paths))
    hook = _judge_state(state, target, places)
    if hook is None:
        hook = _check_loading(places, Path(paths.spool))
    helper = find_helper_problem(paths)
    faults = [hook, _check_spool(paths.spool), _judge_helper(helper) if helper else None, passwords]
    checked = (f"hook {target}", f"spool {paths.spool}", f"helper {paths.helper}")
    return Examination(checked, tuple(fault for fault in faults if fault is not None))


def _judge_state(state: HookState, target: Path, places: HookPlaces) -> FindingView | None:
    install = f"`{_install_command(places)}`"
    match state:
        case HookState.INSTALLED:
            return None
        case HookState.NOT_INSTALLED:
            return _fault(
                FindingCode.HOOK_MISSING, f"libvirt's hook is not installed ({target})", f"install it: {install}"
            )
        case HookState.FOREIGN:
            quoted = shlex.quote(str(target))
            advice = f"give it another name, `mv {quoted} {quoted}-other`, then install ours: {install}"
            return _fault(
                FindingCode.HOOK_MISSING, f"another program's file is where our hook should be ({target})", advice
            )
    problem = f"the hook is not as it should be ({target}): {state.value.replace('-', ' ')}"
    return _fault(FindingCode.HOOK_OUTDATED, problem, f"install it again: {install}")


def _install_command(places: HookPlaces) -> str:
    words = ["sidecarctl", "hooks", "install"]
    if places.hooks_directory != HOOKS_DIRECTORY:
        words += ["--hooks-dir", str(places.hooks_directory)]
    if places.configuration is not None:
        words += ["--config", str(places.configuration)]
    return shlex.join(words)


def _check_loading(places: HookPlaces, spool: Path) -> FindingView | None:
    libvirt = find_libvirt(places.run, places.proc)
    if libvirt is None or is_hook_loaded(libvirt, places.hooks_directory, places.state, spool):
        return None
    return _fault(
        FindingCode.HOOK_NOT_LOADED,
        f"nothing shows that {libvirt.name} knows of the hook: it was running before, and no hook has run since",
        f"have it look for hooks: `kill -HUP {libvirt.pid}` (or `systemctl reload {libvirt.name}`). Nothing shows that "
        "it did before a hook runs, when the next domain starts, stops or migrates; until then this stays",
    )


def _check_spool(path: str) -> FindingView | None:
    report = report_spool(path)
    if not report.is_present or not report.problem:
        return None  # sidecard makes one that is missing
    quoted = shlex.quote(path)
    mend = f"`mv {quoted} {quoted}.old`; sidecard makes another" if not report.is_usable else f"`chmod 0700 {quoted}`"
    return _fault(FindingCode.SPOOL_UNUSABLE, f"the hook's spool {path} {report.problem}", mend)


def _judge_helper(problem: str) -> FindingView:
    advice = (
        "install libvirt-sidecar anew (and python3, where /usr/bin/python3 is missing), then `sidecarctl hooks "
        "install`; `sidecarctl hooks status` tries the helper again"
    )
    return _fault(FindingCode.HELPER_BROKEN, f"no policy is judged, and every guest admitted: {problem}", advice)


def check_sockets(api: ApiSection) -> Examination:
    """The sockets of a daemon that runs: there, served, and open to whom they should be."""
    wanted = ((api.socket, 0o660, _find_group(api.socket_group)), (api.readonly_socket, 0o666, None))
    faults = [_check_socket(path, mode, group) for path, mode, group in wanted]
    checked = tuple(f"socket {path}" for path, _mode, _group in wanted)
    return Examination(checked, tuple(fault for fault in faults if fault is not None))


def _find_group(name: str) -> int:
    """Where there is no such group the socket is root's alone, as sidecard has logged."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return os.getegid()


def _check_socket(path: str, mode: int, group: int | None) -> FindingView | None:
    restart = "have sidecard make it again: `systemctl restart sidecard`"
    try:
        found = os.lstat(path)
    except OSError as error:
        return _fault(FindingCode.SOCKET_MISSING, f"the API's socket {path}: {error.strerror}", restart)
    if not stat.S_ISSOCK(found.st_mode) or not _is_served(path):
        return _fault(FindingCode.SOCKET_MISSING, f"the API's socket {path}: nobody answers there", restart)
    if stat.S_IMODE(found.st_mode) == mode and group in (None, found.st_gid):
        return None
    owner = f"chown root:{group} {shlex.quote(path)} && " if group is not None else ""
    problem = f"the API's socket {path} has mode {stat.S_IMODE(found.st_mode):04o} and group {found.st_gid}"
    wanted = f"{mode:04o}" if group is None else f"{mode:04o} and group {group}"
    advice = f"`{owner}chmod {mode:04o} {shlex.quote(path)}`"
    return _fault(FindingCode.SOCKET_WRONG_MODE, f"{problem}, not {wanted}", advice)


def _is_served(path: str) -> bool:
    """Whether somebody listens; one whose queue is full does, too, and one whom we may not ask counts as such."""
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return False
    return True


def report_unreached() -> Examination:
    """The daemon runs and its sockets are sound, and still it was not reached."""
    advice = "is it the right socket, `--socket` or SIDECAR_SOCKET? If so, `systemctl restart sidecard`"
    return Examination(("daemon",), (_fault(FindingCode.DAEMON_DOWN, "sidecard runs, and was not reached", advice),))


def check_daemon(state: Path, proc: Path = PROC) -> FindingView | None:
    """Whether sidecard runs; ``None``: it does."""
    if is_daemon_running(state, proc):
        return None
    advice = "start it: `systemctl start sidecard`; why it ended: `journalctl -u sidecard`"
    return _fault(FindingCode.DAEMON_DOWN, "sidecard does not run: nothing is negotiated, and no record kept", advice)


def is_daemon_running(state: Path, proc: Path = PROC) -> bool:
    """Whether somebody holds sidecard's lock, as the kernel's table of locks shows: see proc_locks(5).

    Trying to take it would keep a daemon that starts just now from its own. Devices are not compared: on some file
    systems the table and stat(2) number them differently.
    """
    with contextlib.suppress(OSError):
        inode = str((state / LOCK_NAME).stat().st_ino)
        table = (proc / "locks").read_text("ascii")
        return any(_locked_inode(line.split()) == inode for line in table.splitlines())
    return False


def _locked_inode(fields: list[str]) -> str | None:
    """Of a line such as ``1: FLOCK ADVISORY WRITE 4711 00:19:1234 0 EOF``; ``None`` for other kinds, or a waiter."""
    if len(fields) < 6 or fields[1] != "FLOCK":
        return None
    return fields[5].rpartition(":")[2]


def _fault(code: FindingCode, problem: str, advice: str) -> FindingView:
    return FindingView(code.value, None, None, problem, advice)
