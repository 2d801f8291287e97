"""The guest's time zone: its name, and how far its standard time is ahead of UTC.

The offset is positive east of Greenwich, +60 for Europe/Berlin: the original negates ``time.timezone``, which counts
the other way, and Windows' ``Bias`` as WMI has it counts like ours. It is standard time all year, as there: the message
goes out when the agent starts and when a host asks, so that an offset with daylight saving would be wrong from the next
change of the clocks on.

Source: localtime(5), tzfile(5).
"""

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.guest.reports.bounds import report_text
from sidecar.guest.reports.system_files import read_bytes, read_word

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_DATABASE = "/zoneinfo/"
# Two more copies of the whole database, with and without leap seconds.
_COPIES = ("posix/", "right/")
_WINTER_AND_SUMMER = (1, 7)


def report_timezone(root: Path = Path("/")) -> dict[str, object]:
    """timezone: the zone's name, or else its abbreviation, and the offset in minutes; without any file it is UTC.

    Raises:
        OSError: /etc/localtime cannot be read.
        ValueError: It is no time zone.
    """
    zone = _read_zone(root)
    name = _read_link(root) or _read_name(root) or _find_abbreviation(zone)
    return {"zone": report_text(name), "offset": _find_offset(zone)}


def _read_link(root: Path) -> str | None:
    """The zone that /etc/localtime links to, which is the one in force."""
    try:
        target = os.readlink(root / "etc/localtime")
    except OSError:
        return None
    name = target.rpartition(_DATABASE)[2] if _DATABASE in target else ""
    for copy in _COPIES:
        name = name.removeprefix(copy)
    return name or None


def _read_name(root: Path) -> str | None:
    """Debian's own note of it, where /etc/localtime is a copy."""
    try:
        lines = read_word(root / "etc/timezone").splitlines()
    except OSError:
        return None
    return lines[0].strip() if lines else None


def _read_zone(root: Path) -> "ZoneInfo | None":
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo.from_file(BytesIO(read_bytes(root / "etc/localtime")))
    except FileNotFoundError:
        return None
    except (struct.error, IndexError) as error:
        raise ValueError("/etc/localtime is cut short") from error


def _find_abbreviation(zone: "ZoneInfo | None") -> str:
    from datetime import datetime

    return (datetime.now(zone).tzname() if zone else None) or "UTC"


def _find_offset(zone: "ZoneInfo | None") -> int:
    """Minutes; daylight saving puts clocks ahead on either half of the globe, so the smaller offset is the standard."""
    from datetime import datetime

    if zone is None:
        return 0
    now = datetime.now(zone)
    offsets = (datetime(now.year, month, 1, tzinfo=zone).utcoffset() for month in _WINTER_AND_SUMMER)
    return min(int(offset.total_seconds()) // 60 for offset in offsets if offset is not None)
