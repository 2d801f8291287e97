import json

import pytest

from sidecar.errors import MessageNotAllowedError
from sidecar.protocol.budget import RENEGOTIATION_LIMIT, RENEGOTIATION_WINDOW_S
from sidecar.protocol.ovirt_outbox import Outbox


def names(outbox: Outbox) -> list[str]:
    return [json.loads(line)["__name__"] for line in outbox.take().splitlines()]


def connected() -> Outbox:
    outbox = Outbox()
    outbox.connect()
    return outbox


def test_each_byte_is_given_out_once() -> None:
    outbox = connected()
    outbox.send("api-version", 3, {"apiVersion": 3})
    assert outbox.take() == b'{"__name__": "api-version", "apiVersion": 3}\n'
    assert outbox.take() == b""


def test_what_may_not_go_is_not_queued() -> None:
    outbox = connected()
    with pytest.raises(MessageNotAllowedError):
        outbox.send("lifecycle-event", 2, {})
    assert outbox.take() == b""


@pytest.mark.parametrize("happen", [Outbox.connect, Outbox.disconnect])
def test_what_was_not_written_is_not_for_the_next_connection(happen: object) -> None:
    outbox = connected()
    outbox.send_refresh(4, 0.0)
    assert callable(happen)
    happen(outbox)
    assert outbox.take() == b""


@pytest.mark.parametrize(("maximum", "more"), [(4, {"apiVersion": 4}), (0, {})])
def test_a_host_that_is_capped_to_zero_names_no_version(maximum: int, more: dict[str, object]) -> None:
    outbox = connected()
    outbox.send_refresh(maximum, 0.0)
    assert json.loads(outbox.take()) == {"__name__": "refresh", **more}


class TestRefreshOnce:
    def test_a_peer_is_sent_one(self) -> None:
        outbox = connected()
        assert [outbox.refresh_once(4, 0.0) for _ in range(3)] == [True] * 3
        assert names(outbox) == ["refresh"]
        outbox.lose_peer()
        assert outbox.refresh_once(4, 0.0)
        assert names(outbox) == ["refresh"]

    def test_nobody_is_sent_one_while_our_end_is_down(self) -> None:
        outbox = Outbox()
        assert (outbox.refresh_once(4, 0.0), names(outbox), outbox.connected) == (True, [], False)
        outbox.connect()
        assert outbox.refresh_once(4, 0.0)
        outbox.disconnect()
        assert (outbox.refresh_once(4, 0.0), names(outbox)) == (True, [])
        outbox.connect()
        assert (outbox.refresh_once(4, 0.0), names(outbox)) == (True, ["refresh"])

    def test_so_many_in_a_window(self) -> None:
        outbox = connected()
        for number in range(RENEGOTIATION_LIMIT):
            outbox.lose_peer()
            assert outbox.refresh_once(4, float(number))
        outbox.take()
        outbox.lose_peer()
        assert (outbox.refresh_once(4, RENEGOTIATION_WINDOW_S - 0.1), names(outbox)) == (False, [])
        assert (outbox.refresh_once(4, RENEGOTIATION_WINDOW_S), names(outbox)) == (True, ["refresh"])

    def test_those_of_our_own_connections_count(self) -> None:
        outbox = connected()
        for now in [0.0] + [30.0] * RENEGOTIATION_LIMIT:
            outbox.send_refresh(4, now)
        outbox.take()
        outbox.lose_peer()
        assert (outbox.refresh_once(4, RENEGOTIATION_WINDOW_S), names(outbox)) == (False, [])
