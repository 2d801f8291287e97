from sidecar.api.events import Event
from sidecar.api.views import DialectOffer
from sidecar.bindings.documents import make_document


def test_views_events_and_plain_values() -> None:
    event = Event("1-1", "t", "tools", "vm1", None, {"tools": None})
    assert make_document((DialectOffer(4, "max"), event, {"x": [1]}, None)) == [
        {"maximum": 4, "cap": "max", "supported": None},
        {"id": "1-1", "time": "t", "type": "tools", "domain": "vm1", "uuid": None, "tools": None},
        {"x": [1]},
        None,
    ]
