"""Builds what the guests boot: a Debian kernel and an initramfs with busybox, Python and qemu-ga.

The result is kept in `.cache/lab/image-HASH/` and built again only when an input changed. The initramfs is two
archives in a row, which the kernel reads as one: everything large, then the project's own few files.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contrib.guest_zipapp import find_sources
from tests.lab.initramfs import Archive
from tests.lab.packages import dependency_of, refresh_lists, shared_libraries, unpack

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache" / "lab"
GUEST_FILES = Path(__file__).parent / "guest_files"

# Debian's python3: the same release, with its libraries, goes into the guest.
PYTHON = Path("/usr/bin/python3")
BUSYBOX = Path("/usr/bin/busybox")
KERNEL_META_PACKAGE = "linux-image-cloud-amd64"

KEPT_IMAGES = 4

# In the order in which they have to be loaded; brd is there for tests that want a real file system to freeze.
MODULES = (
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
)
EXTRA_MODULES = ("brd",)

# Parts of the standard library that no guest agent has a use for.
_UNWANTED_DIRECTORIES = """
    __pycache__ test tests idlelib lib2to3 ensurepip pydoc_data tkinter turtledemo distutils unittest sqlite3
    curses dbm venv wsgiref xmlrpc config-3.11-x86_64-linux-gnu dist-packages
"""
_UNWANTED_FILES = "EXTERNALLY-MANAGED turtle.py pydoc.py doctest.py pickletools.py _pydecimal.py _pyio.py"
UNWANTED = frozenset(_UNWANTED_DIRECTORIES.split() + _UNWANTED_FILES.split())
UNWANTED_EXTENSIONS = (
    "_codecs_",
    "_sqlite3",
    "_ssl",
    "_hashlib",
    "_curses",
    "_dbm",
    "_tkinter",
    "_test",
    "nis",
)
UNWANTED_ENCODINGS = (
    "cp1",
    "cp7",
    "cp8",
    "cp9",
    "iso",
    "mac_",
    "euc_",
    "big5",
    "gb",
    "shift",
    "koi",
    "hz",
    "johab",
)

SCRIPTS = ("rc", "control")

# The project's own files in the guest, mirrored at the same place below /lab.
OWN_SOURCES = (
    "tests/fakes/ovirt_agent.py",
    "tests/lab/guest_files/control.py",
    "tests/lab/guest_files/ovirt_agent_main.py",
    "tests/lab/guest_files/ports.py",
)


@dataclass(frozen=True, slots=True)
class Image:
    """A bootable pair of files."""

    kernel: Path
    initramfs: Path


def build_image(cache: Path = CACHE, tell: Callable[[str], object] = len) -> Image:
    """The image for the present inputs, from the cache when it is there; else `tell` hears that it is built.

    Raises:
        LookupError: a package cannot be had, or a file of it is not where it was.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "image.lock"):
        base = _cached(cache, "base", _hash_files([Path(__file__), GUEST_FILES / "inittab", *_machine_inputs()]))
        own = _cached(cache, f"image-{base.name[-6:]}", _hash_files([Path(__file__), *_own_inputs()]))
        if not (base / "initramfs").exists():
            tell("building the guests' kernel and initramfs")
            _build_base(base, cache / "packages")
        if not (own / "initramfs").exists():
            _build_own(own, base)
            _remove_old(cache)
        return Image(kernel=base / "kernel", initramfs=own / "initramfs")


def _own_inputs() -> list[Path]:
    return [*_own_sources(), *(GUEST_FILES / script for script in SCRIPTS)]


def _own_sources() -> list[Path]:
    """The scripted agents and what starts them, and our own agent."""
    return [*(REPOSITORY / source for source in OWN_SOURCES), *find_sources()]


def _machine_inputs() -> list[Path]:
    return [PYTHON.resolve(), BUSYBOX.resolve()]


def _build_base(target: Path, packages: Path) -> None:
    refresh_lists(KERNEL_META_PACKAGE)
    kernel = unpack(dependency_of(KERNEL_META_PACKAGE, r"linux-image-[\d.]+-.*amd64"), packages)
    qga = unpack("qemu-guest-agent", packages)
    archive = Archive()
    for directory in ("dev", "proc", "sys", "tmp", "run", "root", "mnt", "var"):
        archive.add_directory(directory)
    archive.add_symlink("var/run", "/run")
    _add_busybox(archive)
    _add_modules(archive, kernel)
    _add_binary(archive, "usr/sbin/qemu-ga", qga / "usr/sbin/qemu-ga")
    _add_python(archive)
    _add_psutil(archive, unpack("python3-psutil", packages))
    archive.add_file("etc/inittab", GUEST_FILES / "inittab")
    (image,) = (kernel / "boot").glob("vmlinuz-*")
    _write(target / "kernel", image.read_bytes())
    _write(target / "initramfs", archive.finish())


def _build_own(target: Path, base: Path) -> None:
    archive = Archive()
    for script in SCRIPTS:
        archive.add_bytes(f"lab/{script}", (GUEST_FILES / script).read_bytes(), 0o755)
    with tempfile.TemporaryDirectory() as scratch:
        compiled = _compile(_own_sources(), Path(scratch))
        for source, code in compiled.items():
            archive.add_bytes(f"lab/{source.relative_to(REPOSITORY)}c", code)
    # Each archive begins at a multiple of four: finish() pads.
    _write(target / "initramfs", (base / "initramfs").read_bytes() + archive.finish())


def _add_busybox(archive: Archive) -> None:
    archive.add_file("bin/busybox", BUSYBOX)
    listing = subprocess.run([str(BUSYBOX), "--list"], check=True, capture_output=True, text=True).stdout
    for applet in listing.split():
        if applet != "busybox":
            archive.add_symlink(f"bin/{applet}", "busybox")
    archive.add_symlink("init", "/bin/busybox")


def _add_modules(archive: Archive, kernel: Path) -> None:
    found = {path.stem: path for path in (kernel / "lib/modules").rglob("*.ko")}
    for module in (*MODULES, *EXTRA_MODULES):
        archive.add_file(f"lib/modules/{module}.ko", found[module])
    archive.add_bytes("lib/modules/order", "".join(f"{module}\n" for module in MODULES).encode())


def _add_binary(archive: Archive, path: str, source: Path) -> None:
    """Adds a program or an extension module with the libraries it needs, each at its own path."""
    archive.add_file(path, source)
    for library in shared_libraries(source):
        if str(library) not in archive:
            archive.add_file(str(library), library)


def _add_python(archive: Archive) -> None:
    program = PYTHON.resolve()
    _add_binary(archive, "usr/bin/python3", program)
    library = Path("/usr/lib") / program.name
    sources = [path for path in _walk(library) if path.suffix == ".py"]
    with tempfile.TemporaryDirectory() as scratch:
        compiled = _compile(sources, Path(scratch))
    for path, code in compiled.items():
        archive.add_bytes(f"{path}c", code)
    for path in _walk(library):
        if path.suffix == ".so":
            _add_binary(archive, str(path), path)


def _add_psutil(archive: Archive, package: Path) -> None:
    """What our own agent needs beside the standard library, where Debian's python3 looks for it."""
    directory = package / "usr/lib/python3/dist-packages/psutil"
    sources = [path for path in _walk(directory) if path.suffix == ".py"]
    with tempfile.TemporaryDirectory() as scratch:
        compiled = _compile(sources, Path(scratch))
    for path, code in compiled.items():
        archive.add_bytes(f"{path.relative_to(package)}c", code)
    for path in directory.glob("*.so"):
        _add_binary(archive, str(path.relative_to(package)), path)


def _walk(directory: Path) -> Iterator[Path]:
    """The files of the standard library that go along."""
    for path in sorted(directory.iterdir()):
        if path.name in UNWANTED or path.name.startswith(UNWANTED_EXTENSIONS):
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.suffix != ".py" or not (path.parent.name == "encodings" and path.name.startswith(UNWANTED_ENCODINGS)):
            yield path


def _compile(sources: list[Path], scratch: Path) -> dict[Path, bytes]:
    """Byte code, made by the very Python that will run it: compiling at start takes seconds under TCG."""
    jobs = [(str(source), str(scratch / f"{index}.pyc")) for index, source in enumerate(sources)]
    program = (
        "import json, py_compile, sys\n"
        "for source, target in json.load(sys.stdin):\n"
        "    py_compile.compile(source, target, source, doraise=True,\n"
        "                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\n"
    )
    subprocess.run([str(PYTHON), "-I", "-c", program], input=json.dumps(jobs), text=True, check=True)
    return {source: Path(target).read_bytes() for source, (_, target) in zip(sources, jobs, strict=True)}


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _cached(cache: Path, kind: str, key: str) -> Path:
    """The directory of that key, newly made or in use again."""
    target = cache / f"{kind}-{key}"
    target.mkdir(exist_ok=True)
    os.utime(target)
    return target


def _remove_old(cache: Path) -> None:
    """Keeps the last few: a guest that runs now may still have to reboot from one that is not the newest."""
    for kind in ("base", "image"):
        newest_first = sorted(cache.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[KEPT_IMAGES:]:
            shutil.rmtree(path)


def _write(path: Path, data: bytes) -> None:
    """All or nothing: a build that was cut short must not look like a finished one."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other runs of the lab out as long as it is held."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        build_image(tell=lambda what: sys.stderr.write(f"setup: {what}\n"))
    except LookupError as error:
        sys.exit(f"setup: no guest image: {error}")
