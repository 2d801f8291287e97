"""``sidecarctl hooks``: installs, removes and looks at the hook that libvirt runs.

Never touches a file that it did not write, and never signals libvirtd: it says what the operator may have to do.
"""

import json
import sys
from pathlib import Path

from sidecar.adapters.hook_file import NAME, HookPaths, HookState, has_hooks, judge, render_hook, write_hook
from sidecar.adapters.hook_setup import SpoolReport, find_helper_problem, find_paths, report_spool
from sidecar.errors import ConfigurationError, HookConflictError


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
