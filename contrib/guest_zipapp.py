"""Packs the guest's agent into one file that runs on a guest's own python3: see ``contrib/zipapp``.

What goes in is what ``sidecar.guest`` imports of this project, found by reading its import statements: nothing is
listed by hand, and nothing of the host's side can slip in unnoticed.
"""

import ast
import os
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRY = "sidecar.guest.__main__"
NAME = "sidecar-guest-agent.pyz"
SHEBANG = b"#!/usr/bin/python3 -I\n"

# The same sources make the same file.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def find_sources() -> list[Path]:
    """The modules of this project that the agent needs, sorted, with the packages that they are in."""
    found: dict[str, Path] = {}
    wanted = [ENTRY]
    while wanted:
        name = wanted.pop()
        path = _find(name)
        if path is not None and name not in found:
            found[name] = path
            wanted += [name.rpartition(".")[0], *_imported(path)]
    return sorted(found.values())


def _find(name: str) -> Path | None:
    path = REPOSITORY.joinpath(*name.split("."))
    package = path / "__init__.py"
    module = path.with_suffix(".py")
    return package if package.exists() else module if name and module.exists() else None


def _imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.partition(".")[0] == "sidecar"]


def build(target: Path) -> None:
    """Write the archive; it is executable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for source in find_sources():
                _add(archive, str(source.relative_to(REPOSITORY)), source.read_bytes())
            _add(archive, "__main__.py", (REPOSITORY / "sidecar/guest/__main__.py").read_bytes())
            _add(archive, "LICENSE", (REPOSITORY / "LICENSE").read_bytes())
    target.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    information = zipfile.ZipInfo(name, _TIMESTAMP)
    information.compress_type = zipfile.ZIP_DEFLATED
    information.external_attr = 0o644 << 16
    archive.writestr(information, content)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "dist" / NAME
    build(target)
    print(os.path.relpath(target))
