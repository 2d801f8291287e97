"""Servers that start in the end; what they do at a real broker is in ``test_process``."""

import logging
import threading
from typing import Any

import pytest

from sidecar.bus import oslo, rpc_servers
from sidecar.bus.rpc_servers import Door, serve

# isort: split
import oslo_messaging

LIMIT_S = 20.0


class Factory:
    """``get_rpc_server``, of whose servers some do not start."""

    def __init__(self, failures: int) -> None:
        self.made: list[tuple[Any, ...]] = []
        self.threads: list[int] = []
        self._failures = failures

    def make(self, *arguments: Any, access_policy: Any) -> "Factory":
        assert access_policy is oslo_messaging.ExplicitRPCAccessPolicy
        self.made.append(arguments)
        return self

    def start(self, override_pool_size: int) -> None:
        self.threads.append(override_pool_size)
        if len(self.threads) <= self._failures:
            raise oslo_messaging.MessageDeliveryFailure("ACCESS_REFUSED")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_servers, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(rpc_servers, "RETRY_LIMIT_S", 0.002)


@pytest.mark.parametrize("failures", [0, 20])
def test_tries_until_it_is_served(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    factory = Factory(failures)
    monkeypatch.setattr(oslo_messaging, "get_rpc_server", factory.make)
    started = threading.Event()
    endpoints = (object(),)
    serve("transport", Door(oslo.FLEET, "alpha", endpoints, threads=1), started.set).join(LIMIT_S)
    assert started.is_set()
    # What has failed once is not started again.
    assert len(factory.made) == len(factory.threads) == failures + 1
    transport, target, served = factory.made[-1]
    assert (transport, target, served) == ("transport", oslo.make_target(oslo.FLEET, "alpha"), list(endpoints))
    assert set(factory.threads) == {1}
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == ["topic sidecar-fleet cannot be served, trying again: ACCESS_REFUSED"] * (failures > 0)


def test_does_not_keep_a_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oslo_messaging, "get_rpc_server", Factory(0).make)
    thread = serve("transport", Door(oslo.READING, "alpha", ()))
    assert thread.daemon
    thread.join(LIMIT_S)
