"""``sidecarctl fleet``: all hosts, and where the guests of one could go."""

import json
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime

from sidecar.api.views import FleetForecastView, FleetView
from sidecar.cli import fleet_sheets
from sidecar.cli.terminal import Screen, progress, warn
from sidecar.client.documents import Documents

DONE, REFUSED = 0, 1

# Of a thousand hosts that do not answer nobody reads more names in one line.
NAMES_LIMIT = 20


def show(documents: Documents, options: Namespace) -> int:
    """Print every host, and what the fleet means for this one; 1 when a host did not answer, or none was asked."""
    with progress(f"waiting for the other hosts, {options.timeout:g} s at most"):
        answer = documents.request("fleet", timeout=options.timeout)
    view = documents.read(FleetView, "fleet", answer)
    if options.json:
        print(json.dumps(answer))
    else:
        print(fleet_sheets.render_fleet(view, Screen.of_stdout(), datetime.now(UTC)))
    if view.problem is not None:
        warn(view.problem)
    elif not view.complete:
        silent = [host.hostname for host in view.hosts if not host.answered]
        warn(_describe_silent(silent, options))
    return DONE if view.complete else REFUSED


def forecast(documents: Documents, options: Namespace) -> int:
    """Print where each guest of a host could go; 1 when one would lose something wherever it went."""
    with progress(f"waiting for the other hosts, {options.timeout:g} s at most"):
        answer = documents.request("fleet_preflight", host=options.named, timeout=options.timeout)
    view = documents.read(FleetForecastView, "fleet_preflight", answer)
    if options.json:
        print(json.dumps(answer))
    else:
        print(fleet_sheets.render_forecast(view, Screen.of_stdout()))
    bound = [guest.name for guest in view.guests if not guest.keeps]
    told = [f"no host that answered would keep the agreements of {list_names(bound)}"] if bound else []
    if view.unanswered:
        told.append(_describe_silent(view.unanswered, options))
    if told:
        warn("; ".join(told))
    return REFUSED if bound else DONE


def _describe_silent(names: Sequence[object], options: Namespace) -> str:
    return f"not everybody answered within {options.timeout:g} s: {list_names(names)}"


def list_names(names: Sequence[object]) -> str:
    """Names in one line; of very many some, and how many more there are."""
    rest = len(names) - NAMES_LIMIT
    return ", ".join(map(str, names[:NAMES_LIMIT])) + (f" and {rest} more" if rest > 0 else "")
