"""One target under atheris: ``python -m tests.fuzz TARGET [libFuzzer's options and corpora]``.

libFuzzer ends the process itself, with what it found last on stderr; therefore each campaign is a process of its own.
"""

import importlib
import os
import sys

from tests.fuzz.target import FAILS, NAMES, Target, load

# What is instrumented: our own code, and what the standard library reads JSON, calls and texts with in Python.
INSTRUMENTED = ["sidecar", "xmlrpc", "tests.fuzz.targets"]


def main() -> None:
    """Run until libFuzzer ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in (*NAMES, FAILS):
        sys.exit(f"usage: python -m tests.fuzz TARGET [OPTION...] [CORPUS...]; targets: {', '.join(NAMES)}")
    # By name: it exists for few platforms, and nothing else of the tests needs it.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(sys.argv.pop(1))
    # libFuzzer starts itself anew to merge corpora, and to minimise an input.
    program = f"{sys.executable} -m tests.fuzz {target.name}"
    atheris.Setup([program, f"-dict={write_words(target)}", *sys.argv[1:]], target.check)
    atheris.Fuzz()


def write_words(target: Target) -> str:
    """The path of libFuzzer's dictionary, in memory alone: nobody of ours is left at the end to remove a file."""
    file = os.memfd_create("words", 0)
    os.write(file, render_words(target))
    return f"/proc/self/fd/{file}"


def render_words(target: Target) -> bytes:
    """As libFuzzer reads a dictionary."""
    texts = ("".join(f"\\x{number:02x}" for number in word) for word in target.words)
    return "".join(f'"{text}"\n' for text in texts).encode()


if __name__ == "__main__":
    main()
