"""Files out of Debian packages, without installing the packages.

The guest's kernel and its qemu-ga come so: nothing of them may appear on the machine itself.
"""

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# A mirror that answers at all sends the kernel's 30 MB within this.
DOWNLOAD_TIMEOUT_S = 300
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def dependency_of(package: str, pattern: str) -> str:
    """The package that `package` depends on and whose name matches `pattern` from start to end.

    Raises:
        LookupError: apt knows no such package; perhaps it has no package lists.
    """
    answer = _apt("apt-cache", "depends", "--important", package)
    for name in re.findall(r"Depends: (\S+)", answer):
        if re.fullmatch(pattern, name):
            return str(name)
    raise LookupError(f"{package} depends on nothing that looks like {pattern}")


def refresh_lists(package: str) -> None:
    """Fetches apt's package lists when apt does not know `package`."""
    if "Candidate:" not in _apt("apt-cache", "policy", package):
        _apt("apt-get", "-q", "update")


def unpack(package: str, cache: Path, options: Sequence[str] = ()) -> Path:
    """The directory with the unpacked files of a package; downloaded once, then kept in `cache`."""
    target = cache / package
    if target.is_dir():
        return target
    scratch = cache / f"{package}.part"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    # "Sandbox-User=root": the user _apt cannot write below a private directory, and apt would warn.
    _apt("apt-get", "-q", "-o", "APT::Sandbox::User=root", *options, "download", package, cwd=scratch)
    (archive,) = scratch.glob("*.deb")
    _apt("dpkg-deb", "-x", str(archive), str(scratch))
    archive.unlink()
    scratch.rename(target)
    return target


def unpack_from_suite(suite: str, package: str, cache: Path) -> Path:
    """Like `unpack`, from another suite of the machine's own Debian mirror; the machine's sources stay as they are."""
    state = cache / f"apt-{suite}"
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    (state / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by={DEBIAN_KEYRING}] {_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    if not (cache / suite / package).is_dir():
        _apt("apt-get", "-q", "-o", "APT::Sandbox::User=root", *flags, "update")
    return unpack(package, cache / suite, flags)


def _mirror() -> str:
    """The address of the mirror of Debian itself, as this machine is configured."""
    listing = _apt("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    for line in listing.splitlines():
        address, _, name = line.partition(" ")
        if name == release:
            return address
    raise LookupError(f"apt has no source for {release}")


def shared_libraries(binary: Path) -> list[Path]:
    """What the dynamic loader of this machine would map for `binary`, the loader included."""
    answer = subprocess.run(["ldd", str(binary)], check=True, capture_output=True, text=True).stdout
    if "not found" in answer:
        raise LookupError(f"{binary} needs libraries that are not installed here:\n{answer}")
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", answer)]


def _apt(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=DOWNLOAD_TIMEOUT_S)
    if done.returncode != 0:
        raise LookupError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
