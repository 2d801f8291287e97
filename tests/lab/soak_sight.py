"""What the soak sees of guests and hosts after a step: with virsh, the daemons' API, and in the guests themselves."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import fields

from sidecar.api.problems import ProblemError
from sidecar.api.views import ChannelView, DomainView, ToolsView
from tests.lab.api import api
from tests.lab.domain_xml import RECORD_URI
from tests.lab.guest import Guest
from tests.lab.host import Host
from tests.soak.judge import Seen, SeenRecord

NOTE_URI = "urn:example:lab-note"
_STRANGER_URI = "urn:example:other-program"

STRANGER = f'<other:thing xmlns:other="{_STRANGER_URI}" kept="as &quot;it&quot;">was &amp; is</other:thing>'
"""Another program's metadata, which nobody has any business with."""

_DASHED = {"host_uuid": "host-uuid", "up_to_date": "up-to-date"}


def render_note(edition: int) -> str:
    """The operator's note, as it is given to virsh."""
    return f'<note edition="{edition}"/>'


def render_first_note() -> str:
    """The operator's note as the guest is defined with it."""
    return f'<lab:note xmlns:lab="{NOTE_URI}" edition="0"/>'


def render_others(edition: int) -> list[str]:
    """What `see` must show beside the record."""
    return sorted(
        [
            _describe(ET.fromstring(STRANGER)),
            _describe(ET.fromstring(f'<note xmlns="{NOTE_URI}" edition="{edition}"/>')),
        ]
    )


def see(guest: Guest) -> Seen:
    """Everything about one guest; whatever cannot be had is missing, for the judge to complain of."""
    live_xml, config_xml, state = _ask_libvirt(guest)
    live, config = _metadata(live_xml), _metadata(config_xml)
    told, settled = _ask_api(guest)
    boot, uptime, _ = guest.shell("cat /proc/sys/kernel/random/boot_id /proc/uptime").split()
    return Seen(
        live=_record(live),
        config=_record(config),
        api=told,
        settled=settled,
        others=(_others(live), _others(config)),
        believed=guest.agent_version(),
        boot=boot,
        uptime_s=float(uptime),
        running=state == "running",
    )


def complain_of_host(host: Host, here: set[str], all_guests: Iterable[str]) -> list[str]:
    """What is wrong on a host that should have just these of the guests: who has gone is gone, in every respect."""
    known = set(host.virsh("list", "--all", "--name").split())
    with api(host) as client:
        told = {domain.name for domain in client.list()}
    spool = list(host.path("/run/sidecar/spool").iterdir())
    wrong = [] if told == here else [f"{host.name}'s daemon has {sorted(told)}, and should have {sorted(here)}"]
    wrong += [] if known & set(all_guests) == here else [f"{host.name}'s libvirt has {sorted(known)}"]
    wrong += [f"{host.name}'s spool holds {sorted(file.name for file in spool)}"] if spool else []
    return wrong


def complain_of_log(host: Host) -> list[str]:
    """What no daemon may ever say."""
    lines = host.log_text().splitlines()
    return [f"{host.name}: {line}" for line in lines if "Traceback" in line or "bad-" in line or " ERROR" in line]


def _ask_libvirt(guest: Guest) -> tuple[str, str, str]:
    """The live XML, the configuration and the state, from one virsh: three would be most of a look's time."""
    name = guest.name
    said = guest.here.virsh(f"dumpxml {name}; dumpxml {name} --inactive; domstate {name}", check=False)
    live, mark, rest = said.partition("</domain>\n")
    config, _, state = rest.partition(mark)
    return live + mark, config + mark, state.strip()


def _metadata(domain_xml: str) -> list[ET.Element]:
    metadata = ET.fromstring(domain_xml).find("metadata")
    return [] if metadata is None else list(metadata)


def _record(metadata: list[ET.Element]) -> SeenRecord | None:
    found = [element for element in metadata if element.tag == f"{{{RECORD_URI}}}agreement"]
    if not found:
        return None
    assert len(found) == 1, "two records"
    channels = {row.attrib["name"]: dict(row.attrib) for row in found[0].iterfind(f"{{{RECORD_URI}}}channel")}
    tools = found[0].find(f"{{{RECORD_URI}}}tools")
    return SeenRecord(dict(found[0].attrib), channels, None if tools is None else dict(tools.attrib))


def _others(metadata: list[ET.Element]) -> list[str]:
    return sorted(_describe(element) for element in metadata if not element.tag.startswith(f"{{{RECORD_URI}}}"))


def _describe(element: ET.Element) -> str:
    assert len(element) == 0
    return f"{element.tag} {dict(sorted(element.attrib.items()))} {element.text or ''}"


def _ask_api(guest: Guest) -> tuple[SeenRecord | None, bool]:
    """The record as the daemon of the guest's host tells it, and whether it stands in the XML."""
    try:
        with api(guest.here) as client:
            view = client.show(guest.name)
    except ProblemError:  # not here yet
        return None, False
    channels = {row.name: _attributes(row) for row in view.channels}
    tools = None if view.tools is None else _attributes(view.tools, "state")
    return SeenRecord(
        _attributes(view, "name", "uuid", "activity", "recorded", "channels", "tools"), channels, tools
    ), (view.recorded)


def _attributes(view: DomainView | ChannelView | ToolsView, *left_out: str) -> dict[str, str]:
    """A view's fields under the names of the record's attributes."""
    values = {field.name: getattr(view, field.name) for field in fields(view) if field.name not in left_out}
    return {_DASHED.get(name, name): str(value) for name, value in values.items() if value is not None}
