"""What the doctor says of the message bus, and of the passwords for it that stand in the configuration."""

import re
import shlex
import stat
from pathlib import Path

from sidecar.api.views import FindingView
from sidecar.config import DEFAULT_PATH, load_configuration
from sidecar.engine.doctor import Examination
from sidecar.engine.remedies import FindingCode
from sidecar.engine.tally import Tally

# Of a transport URL, which may name several hosts, each with a user of its own.
_PASSWORD = re.compile(r"[/,][^/@,:]*:[^@]+@")


def report_bus(tally: Tally) -> Examination:
    """How the bus that is configured does."""
    faults = []
    if not tally.bus_connected:
        problem = (
            "there is no connection to the message bus ([bus] url): the other hosts cannot be asked, and "
            f"{tally.bus_waiting} events wait on disk"
        )
        advice = (
            "see that the broker runs and lets us in: `journalctl -u sidecard` has its words, and on its machine "
            "`rabbitmqctl list_connections user vhost state` who is connected"
        )
        faults.append(_fault(FindingCode.BUS_DISCONNECTED, problem, advice))
    if tally.bus_dropped:
        problem = (
            f"{tally.bus_dropped} events were never sent over the message bus, since more than [bus] outbox_events "
            "waited for the broker"
        )
        advice = (
            "whoever follows them must look at every domain anew, `sidecarctl list`; raise outbox_events when the "
            "broker may be away for so long again. `systemctl restart sidecard` ends this finding"
        )
        faults.append(_fault(FindingCode.BUS_DROPPED, problem, advice))
    return Examination(("message bus",), tuple(faults))


def check_passwords(configuration: Path | None) -> FindingView | None:
    """Whether a password for the bus stands in a file that every user can read; ``None``: none does.

    Raises:
        ConfigurationError: The configuration is wrong.
    """
    file = configuration or DEFAULT_PATH
    section = load_configuration(configuration).bus
    urls = [url for url in (section.url, section.admin_url) if url is not None]
    try:
        is_open = bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return None  # there is none, or it went just now
    if not is_open or not any(_PASSWORD.search(url) for url in urls):
        return None
    return _fault(
        FindingCode.CONFIG_READABLE,
        f"every user of this host can read {file}, and with it the message bus's password",
        f"`chmod o-rwx {shlex.quote(str(file))}`, and give the bus's user a new password: who had this one can act "
        "for this host",
    )


def _fault(code: FindingCode, problem: str, advice: str) -> FindingView:
    return FindingView(code.value, None, None, problem, advice)
