"""``sidecarctl hooks``: installs, removes and looks at the hook that libvirt runs.

Never touches a file that it did not write, and never signals libvirtd: it says what the operator may have to do.
"""

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters.offer_file import NAME as OFFER_NAME
from sidecar.cli.admit import REFUSED
from sidecar.cli.hook_file import NAME, HookPaths, HookState, has_hooks, judge, render_hook, write_hook
from sidecar.errors import ConfigurationError, HookConflictError
from sidecar.protocol.versions import OFFER_LIMIT
from sidecar.record.policy import NAMESPACE as POLICY_NAMESPACE

HELPER_COMMAND = ("/usr/bin/python3", "-IBS")
"""How the hook runs its helper: Debian's own interpreter, without its environment, site packages or bytecode files."""

# Far more than the hook grants its helper: a machine that is busy just now is nothing to warn of.
TRIAL_LIMIT_S = 10.0

# No host can honour it, so a helper that works refuses it.
_TRIAL_XML = (
    f'<domain><metadata><policy xmlns="{POLICY_NAMESPACE}">'
    f'<require dialect="ovirt" min-version="{OFFER_LIMIT}"/></policy></metadata></domain>'
)


@dataclass(frozen=True, slots=True)
class SpoolReport:
    """The spool directory as the hook will find it; ``problem`` says what is wrong, ``""`` when nothing is."""

    path: str
    is_present: bool
    problem: str
    is_usable: bool


def install(hooks_directory: Path, configuration: Path | None) -> None:
    """Write the hook, or bring ours up to date, and say what libvirt has to be told.

    Raises:
        ConfigurationError: The spool's path or the directory there can not serve; nothing was written.
        HookConflictError: Another's file stands there; nothing was written.
    """
    target = hooks_directory / "qemu.d" / NAME
    paths = find_paths(configuration)
    spool = report_spool(paths.spool)
    if not spool.is_usable:
        raise ConfigurationError(f"paths.spool: {spool.path}: {spool.problem}")
    content = render_hook(paths)
    before = judge(target, content)
    if before is HookState.FOREIGN:
        raise HookConflictError(f"{target}: was not written by sidecarctl; left alone")
    hooks_were_there = has_hooks(hooks_directory)
    if before is not HookState.INSTALLED:
        write_hook(target, content, is_new=before is HookState.NOT_INSTALLED)
    _warn(paths, spool)
    print(f"{target}: {_INSTALL_WORDS[before]}")
    print(_LIBVIRT_KNOWS if hooks_were_there else _LIBVIRT_MUST_LOOK)


def _warn(paths: HookPaths, spool: SpoolReport) -> None:
    """One line for each thing that the hook needs and that is not as it should be."""
    if spool.is_present and spool.problem:
        print(f"sidecarctl: warning: {spool.path}: {spool.problem}", file=sys.stderr)
    problem = find_helper_problem(paths)
    if problem:
        print(f"sidecarctl: warning: no policy will be judged: {problem}", file=sys.stderr)


_INSTALL_WORDS = {
    HookState.INSTALLED: "is installed already",
    HookState.OUTDATED: "brought up to date",
    HookState.NOT_EXECUTABLE: "made executable again",
    HookState.NOT_INSTALLED: "installed",
}
_LIBVIRT_KNOWS = "Hooks were there before, so libvirt looks here already (if they were when it started)."
_LIBVIRT_MUST_LOOK = (
    "It is the first hook here: libvirt sees it only after a reload or restart. Run\n"
    "  systemctl reload libvirtd       (or virtqemud, where that runs instead)"
)


def remove(hooks_directory: Path) -> None:
    """Remove our file; when there is none, that is fine.

    Raises:
        HookConflictError: Another's file stands there; it was left alone.
    """
    target = hooks_directory / "qemu.d" / NAME
    match judge(target, b""):
        case HookState.NOT_INSTALLED:
            print(f"{target}: is not installed")
        case HookState.FOREIGN:
            raise HookConflictError(f"{target}: was not written by sidecarctl; left alone")
        case _:
            target.unlink(missing_ok=True)
            print(f"{target}: removed")


def show_status(hooks_directory: Path, configuration: Path | None, *, as_json: bool) -> bool:
    """Print hook, spool and helper, for people or as one JSON document; whether the hook is installed and current."""
    target = hooks_directory / "qemu.d" / NAME
    paths = find_paths(configuration)
    spool, helper_problem = report_spool(paths.spool), find_helper_problem(paths)
    state = judge(target, render_hook(paths))
    if as_json:
        document = {
            "state": state.value,
            "path": str(target),
            "spool": spool.path,
            "spool_present": spool.is_present,
            "spool_sound": spool.is_present and not spool.problem,
            "spool_problem": spool.problem or None,
            "helper": paths.helper,
            "helper_problem": helper_problem or None,
        }
        print(json.dumps(document))
    else:
        print(f"hook:   {state.value.replace('-', ' ')} ({target})")
        print(f"spool:  {spool.problem or 'sound'} ({spool.path})")
        print(f"helper: {helper_problem or 'sound'} ({paths.helper})")
    if state is not HookState.INSTALLED:
        print(f"sidecarctl: the hook is {state.value.replace('-', ' ')}", file=sys.stderr)
    return state is HookState.INSTALLED


def report_spool(path: str) -> SpoolReport:
    """Look at the spool directory; one that is missing is no problem, the daemon makes it."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return SpoolReport(path, is_present=False, problem="is missing; sidecard makes it", is_usable=True)
    if not stat.S_ISDIR(found.st_mode):
        return SpoolReport(path, is_present=True, problem="is not a directory", is_usable=False)
    if found.st_uid not in {0, os.geteuid()}:
        problem = f"belongs to uid {found.st_uid}, so the hook will not write there"
        return SpoolReport(path, is_present=True, problem=problem, is_usable=False)
    problem = "can be written by others; sidecard sets it to 0700" if found.st_mode & 0o022 else ""
    return SpoolReport(path, is_present=True, problem=problem, is_usable=True)


def find_helper_problem(paths: HookPaths) -> str:
    """Run the helper as the hook does, on a policy that it must refuse; ``""`` when it does, else what is wrong."""
    command = [*HELPER_COMMAND, paths.helper, paths.offer, paths.configuration, "trial"]
    try:
        done = subprocess.run(
            command,
            input=_TRIAL_XML.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd="/",
            timeout=TRIAL_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the helper gave no verdict within {TRIAL_LIMIT_S:g} s"
    except OSError as error:
        return f"the helper cannot be run: {command[0]}: {error.strerror}"
    if done.returncode == REFUSED:
        return ""
    said = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    return f"the helper does not work: {command[0]} ended with {done.returncode}, not {REFUSED}: {ascii(said)[1:-1]}"


def find_paths(configuration: Path | None) -> HookPaths:
    """What the hook is told, from the configuration and from where this package is.

    Raises:
        ConfigurationError: The configuration is wrong, or a path in it, or its own, can not stand in a hook.
    """
    from sidecar.config import DEFAULT_PATH, load_configuration  # needs msgspec, which "--help" does not

    section = load_configuration(configuration).paths
    return HookPaths(
        spool=_resolve_spool(section.spool),
        helper=_require_printable("the helper", os.path.realpath(os.path.join(os.path.dirname(__file__), "admit.py"))),
        offer=_require_printable("paths.state", os.path.join(section.state, OFFER_NAME)),
        configuration=_require_printable("--config", os.path.abspath(configuration or DEFAULT_PATH)),
    )


def _resolve_spool(configured: str) -> str:
    """The configured spool with every link before its last part resolved: the hook follows none."""
    parent, name = os.path.split(os.path.normpath("/" + configured.lstrip("/")))
    if not name or not configured.isprintable():
        raise ConfigurationError(f"paths.spool: expected a directory's path, found {configured!a}")
    return os.path.join(os.path.realpath(parent), name)


def _require_printable(what: str, path: str) -> str:
    if not path.isprintable():
        raise ConfigurationError(f"{what}: expected a path that can be printed, found {path!a}")
    return path
