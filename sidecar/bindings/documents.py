"""Results as plain values, for the bindings that do not write JSON by themselves."""

import msgspec

from sidecar.api.events import Event


def make_document(result: object) -> object:
    """A view, several views or events, or plain values, as JSON values; an event's are those of its flat document."""
    if isinstance(result, tuple):
        return [make_document(item) for item in result]
    return msgspec.to_builtins(result.document if isinstance(result, Event) else result)
