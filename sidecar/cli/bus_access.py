"""``sidecarctl --host``: how the message bus is reached; imported with that option alone, for it takes its time."""

import logging
import os
from pathlib import Path

from sidecar.client.line import Line
from sidecar.config import DEFAULT_PATH, load_configuration
from sidecar.errors import ConfigurationError

BUS_VARIABLE = "SIDECAR_BUS"


def find_line(hostname: str, given: str | None) -> Line:
    """The way to a host's daemon, by the file that was given, or else that SIDECAR_BUS names, or else sidecard's own.

    Raises:
        ConfigurationError: oslo.messaging is not installed, or the file does not say how the bus is reached.
    """
    # What oslo.messaging has to say of the broker comes as an error as well, and a log has no place here.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        from sidecar.bus.line import BusAccess, BusLine
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"--host needs libvirt-sidecar[bus]: there is no module {error.name}") from error
    named = given or os.environ.get(BUS_VARIABLE)
    bus = load_configuration(Path(named) if named else None).bus
    if bus.url is None and bus.admin_url is None:
        raise ConfigurationError(f"{named or DEFAULT_PATH}: bus.url: expected, for --host")
    return BusLine(hostname, BusAccess(bus.url, bus.admin_url, bus.oslo_messaging_rabbit))
