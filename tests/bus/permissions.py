"""The users of the bus, and what RabbitMQ lets them do: read from the very commands in ``docs/bus.md``."""

import shlex
from pathlib import Path

from tests.broker import Permissions

HOST, READER, LISTENER = "sidecar-host", "sidecar-reader", "sidecar-listener"
ADMIN_HOST, ADMIN = "sidecar-admin-host", "sidecar-admin"
ADMIN_VHOST = "sidecar-admin"

_DOCUMENT = Path(__file__).parents[2] / "docs/bus.md"


def read_commands() -> list[list[str]]:
    """Every ``rabbitmqctl`` command of the document, without that word, in its order."""
    lines = _DOCUMENT.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    rabbitmqctl ")]


def read_permissions() -> dict[str, tuple[str, Permissions]]:
    """By user: the vhost that it may enter, and what it may do there."""
    found = [command for command in read_commands() if command[0] == "set_permissions"]
    return {user: (vhost, Permissions(*expressions)) for _, _, vhost, user, *expressions in found}
