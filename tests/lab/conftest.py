"""Fixtures of the lab: hosts for the whole run, guests for a test or a module.

A test takes `alpha` and `beta`, and gets guests from `define_guest` or `boot_guest` (factories, everything they
made is destroyed after the test), or takes `defined_guest`, or the module's own `shared_guest`.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from tests.broker import reason_against as reason_against_broker
from tests.lab.domain_xml import GuestSpec
from tests.lab.fleet import Fleet
from tests.lab.guest import Guest
from tests.lab.guest_qga import fetch_newer_qga
from tests.lab.host import Host
from tests.lab.image import CACHE, build_image
from tests.lab.laboratory import Laboratory, reason_against
from tests.lab.run_again import SIGNS, list_runs, pytest_runtest_protocol

__all__ = ["pytest_runtest_protocol"]  # a hook

_LABORATORY = pytest.StashKey[Laboratory]()
_TIMINGS = pytest.StashKey[list[tuple[str, float]]]()


class GuestFactory(Protocol):
    """Makes a guest on a host; without a spec the usual one. A spec without a name is given a fresh name."""

    def __call__(self, spec: GuestSpec = ..., host: Host | None = None) -> Guest: ...


# --- the run


@pytest.fixture(scope="session")
def laboratory(request: pytest.FixtureRequest) -> Iterator[Laboratory]:
    """The lab; skips where it cannot run, and fails instead with SIDECAR_LAB=required."""
    reason = reason_against()
    if reason is not None:
        _give_up(reason)
    try:
        build_image()
    except LookupError as error:
        _give_up(str(error))
    lab = Laboratory()
    request.config.stash[_LABORATORY] = lab
    try:
        yield lab
    finally:
        lab.close()
    left = lab.leftovers()
    if left:
        pytest.fail("the lab left behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def alpha(laboratory: Laboratory) -> Host:
    """The host where guests begin."""
    return laboratory.host("alpha")


@pytest.fixture(scope="session")
def beta(laboratory: Laboratory) -> Host:
    """The host to migrate to."""
    return laboratory.host("beta")


@pytest.fixture(scope="session")
def gamma(laboratory: Laboratory) -> Host:
    """A third host."""
    return laboratory.host("gamma")


@pytest.fixture(scope="module")
def fleet(laboratory: Laboratory, alpha: Host, beta: Host, gamma: Host) -> Iterator[Fleet]:
    """The three hosts with hooks, and their broker, as they are at first; daemons are the module's affair."""
    reason = reason_against_broker()
    if reason is not None:
        _give_up(reason)
    fleet = Fleet(laboratory.broker(), (alpha, beta, gamma))
    fleet.broker.clean()
    for host in fleet.hosts:
        host.clean()
        host.install_hook()
    yield fleet
    for host in fleet.hosts:
        assert "Traceback" not in host.log_text()
        host.clean()


@pytest.fixture(scope="session")
def newer_qga(laboratory: Laboratory) -> Path:
    """qemu-ga 10.0 for `start_qga`; the image's own is 7.2."""
    try:
        return fetch_newer_qga()
    except LookupError as error:
        _give_up(str(error))


@pytest.fixture
def clean_hosts(laboratory: Laboratory) -> Iterator[None]:
    """Afterwards no host has a sidecard, a hook or the sidecar's files, and each has a running libvirtd."""
    yield
    for host in laboratory.hosts:
        host.clean()


@pytest.fixture(scope="session")
def time_step(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Notes how long something took, for the summary at the end of the run."""
    timings = request.config.stash.setdefault(_TIMINGS, [])
    return lambda what, seconds: timings.append((what, seconds))


# --- guests


@pytest.fixture
def define_guest(laboratory: Laboratory, alpha: Host) -> Iterator[GuestFactory]:
    """A factory of guests that are defined on a host (alpha), and not started."""
    with _guests(laboratory, alpha) as define:
        yield define


@pytest.fixture
def boot_guest(define_guest: GuestFactory) -> GuestFactory:
    """A factory of guests that have booted; their agents have just started."""
    return _booting(define_guest)


@pytest.fixture
def defined_guest(define_guest: GuestFactory) -> Guest:
    """The usual guest, defined on alpha."""
    return define_guest()


@pytest.fixture(scope="module")
def boot_shared_guest(laboratory: Laboratory, alpha: Host) -> Iterator[GuestFactory]:
    """Like `boot_guest`; what it makes lives until the module's last test."""
    with _guests(laboratory, alpha) as define:
        yield _booting(define)


@pytest.fixture(scope="module")
def shared_guest(boot_shared_guest: GuestFactory) -> Guest:
    """The usual guest, booted once for all tests of a module; it is where the test before left it."""
    return boot_shared_guest()


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("SIDECAR_LAB") == "required":
        pytest.fail(f"the lab is required and cannot run: {reason}", pytrace=False)
    pytest.skip(f"the lab cannot run: {reason}")


@contextlib.contextmanager
def _guests(laboratory: Laboratory, usual_host: Host) -> Iterator[GuestFactory]:
    made: list[Guest] = []

    def define(spec: GuestSpec = GuestSpec(), host: Host | None = None) -> Guest:  # noqa: B008 (it is frozen)
        guest = laboratory.guest(spec)
        made.append(guest)
        guest.define(host or usual_host)
        return guest

    try:
        yield define
    finally:
        for guest in made:
            laboratory.drop(guest)


def _booting(define: GuestFactory) -> GuestFactory:
    def boot(spec: GuestSpec = GuestSpec(), host: Host | None = None) -> Guest:  # noqa: B008 (it is frozen)
        guest = define(spec, host)
        guest.start()
        guest.wait_booted()
        return guest

    return boot


# --- pytest itself


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever is below this directory is a lab test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps what a failed test's hosts and guests had to say, while they are still there."""
    report = yield
    if report.failed and report.when != "teardown" and _LABORATORY in item.config.stash:
        directory = CACHE / "artefacts" / re.sub(r"[^\w.-]+", "_", item.nodeid)
        shutil.rmtree(directory, ignore_errors=True)
        item.config.stash[_LABORATORY].save_artefacts(directory)
        item.stash[SIGNS] = item.config.stash[_LABORATORY].find_corruption()
        report.sections.append(("lab artefacts", str(directory)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows what `time_step` was told, and which tests were run again."""
    for line in list_runs(terminalreporter):
        terminalreporter.write_line(f"run again, a guest's kernel died: {line}")
    timings = config.stash.get(_TIMINGS, [])
    if timings:
        terminalreporter.section("lab timings")
        for what, seconds in timings:
            terminalreporter.write_line(f"{seconds:7.2f} s  {what}")
