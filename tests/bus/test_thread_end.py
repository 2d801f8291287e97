"""What becomes of the process when a thread of it ends by a fault."""

import subprocess
import sys

import pytest

_PROGRAM = """
import logging, threading
from sidecar.bus import message_values, thread_end

class Values:
    def get(self, key):
        raise {fault}("geheim")

logging.basicConfig(format="%(message)s")
thread_end.watch_threads()
thread = threading.Thread(target={target}, args=(Values(), "key"), name="one")
thread.start()
thread.join()
print("lives", flush=True)
"""


def run(target: str, fault: str = "KeyError") -> tuple[int, str, str]:
    program = _PROGRAM.format(target=target, fault=fault)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("fault", ["KeyError", "MemoryError", "BaseException"])
def test_a_fault_of_ours_ends_the_process(fault: str) -> None:
    code, said, logged = run("message_values.read_name", fault)
    assert (code, said) == (1, "")
    assert logged.startswith(f"thread one ended by a fault of ours, and the process with it: {fault} at threading:")
    assert "sidecar.bus.message_values:" in logged
    assert logged.count("\n") == 1
    assert "geheim" not in logged


def test_a_librarys_does_not() -> None:
    # Also one that has called something of ours.
    code, said, logged = run("lambda *values: message_values.read_name(*values)")
    assert (code, said) == (0, "lives\n")
    assert logged == "thread one of a library ended by a fault: KeyError\n"
