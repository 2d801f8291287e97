"""What the hook needs on this host beside its own file: the paths in it, the spool, and the policies' helper."""

import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters.hook_file import HookPaths
from sidecar.adapters.offer_file import NAME as OFFER_NAME
from sidecar.errors import ConfigurationError
from sidecar.protocol.versions import OFFER_LIMIT
from sidecar.record.policy import NAMESPACE as POLICY_NAMESPACE

HELPER_COMMAND = ("/usr/bin/python3", "-IBS")
"""How the hook runs its helper: Debian's own interpreter, without its environment, site packages or bytecode files."""

HELPER = Path(__file__).parents[1] / "cli" / "admit.py"
"""The helper's file in this package."""

HELPER_REFUSES = 10
"""The exit code by which the helper refuses; the hook knows it, too."""

# Far more than the hook grants its helper: a machine that is busy just now is nothing to warn of.
TRIAL_LIMIT_S = 8.0

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
    if done.returncode == HELPER_REFUSES:
        return ""
    word = ascii(done.stdout.decode(errors="replace").strip().rpartition("\n")[2])[1:-1]
    return f"the helper does not work: {command[0]} ended with {done.returncode}, not {HELPER_REFUSES}: {word}"


def find_paths(configuration: Path | None) -> HookPaths:
    """What the hook is told, from the configuration and from where this package is.

    Raises:
        ConfigurationError: The configuration is wrong, or a path in it, or its own, can not stand in a hook.
    """
    from sidecar.config import DEFAULT_PATH, load_configuration  # needs msgspec, which "--help" does not

    section = load_configuration(configuration).paths
    return HookPaths(
        spool=_resolve_spool(section.spool),
        helper=_require_printable("the helper", os.path.realpath(HELPER)),
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
