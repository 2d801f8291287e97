"""A real broker for the tests of the bus: one node a worker, started on first use, and a fresh vhost for every test."""

import logging
import os
import secrets
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

# oslo.messaging's own imports warn of each other, and a warning is an error in a test.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sidecar.bus.oslo  # noqa: F401

from tests.broker import Broker, reason_against
from tests.bus.permissions import ADMIN_VHOST, read_permissions

# Threads of oslo.messaging's that a test has left, and which it gives no way to end, complain for ever of a vhost that
# is gone: nobody hears them but a test that has a broker. By the level, since pytest listens at every logger that does
# not propagate.
FOREIGN_LOGGERS = [logging.getLogger(name) for name in ("oslo_messaging", "oslo.messaging", "kombu", "amqp")]
SILENCE = logging.CRITICAL + 1
for _logger in FOREIGN_LOGGERS:
    _logger.setLevel(SILENCE)


@dataclass(frozen=True, slots=True)
class BusVhost:
    """Two vhosts of one test's own, ``name`` and ``admin_name``, with the users of ``docs/bus.md``."""

    broker: Broker
    name: str
    admin_name: str

    def url(self, user: str) -> str:
        """The transport URL of a user of the document's, in the vhost that is meant for it."""
        vhost, _ = read_permissions()[user]
        return self.broker.url(user, self.admin_name if vhost == ADMIN_VHOST else self.name)


@pytest.fixture(scope="session")
def broker_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """This worker's node; tests take ``broker``."""
    reason = reason_against()
    if reason is not None:
        if os.environ.get("SIDECAR_LAB") == "required":
            pytest.fail(f"a broker is required and cannot run: {reason}", pytrace=False)
        pytest.skip(f"no broker can run: {reason}")
    node = Broker(tmp_path_factory.mktemp("broker"), tls=True)
    try:
        node.start()
        for user in read_permissions():
            node.add_user(user, secrets.token_hex(8), "", "", "", vhost=None)
        yield node
    finally:
        node.kill()
        node.stop()


@pytest.fixture
def oslo_is_heard() -> Iterator[None]:
    """For a test that listens to the libraries."""
    for logger in FOREIGN_LOGGERS:
        logger.setLevel(logging.NOTSET)
    yield
    for logger in FOREIGN_LOGGERS:
        logger.setLevel(SILENCE)


@pytest.fixture
def broker(broker_node: Broker, oslo_is_heard: None) -> Iterator[Broker]:
    """The worker's node, running; a test may kill, stop or pause it: afterwards it runs again."""
    yield broker_node
    broker_node.run()


@pytest.fixture
def vhost(broker: Broker) -> Iterator[BusVhost]:
    """Nobody else's vhosts, gone after the test with all that is connected to them."""
    name = f"test-{secrets.token_hex(6)}"
    made = BusVhost(broker, name, f"{name}-admin")
    for each in (made.name, made.admin_name):
        broker.add_vhost(each)
    for user, (vhost, permissions) in read_permissions().items():
        broker.allow(user, permissions, made.admin_name if vhost == ADMIN_VHOST else made.name)
    yield made
    broker.run()
    for each in (made.name, made.admin_name):
        broker.remove_vhost(each)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the broker takes seconds."""
    for item in items:
        if "broker_node" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.thorough)
