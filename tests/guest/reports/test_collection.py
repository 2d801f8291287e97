"""Every message's shape, by a table of its own; and that nothing but one error ever comes out."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sidecar.errors import ReportError
from sidecar.guest.reports import Reports, Sources, collection
from sidecar.protocol.framing import LINE_LIMIT_BYTES
from sidecar.protocol.guest_text import clean_value
from sidecar.protocol.ovirt_messages import GUEST_TO_HOST
from tests.fakes.ovirt_agent import FACTS
from tests.guest.reports.guest_tree import PLAIN, plant

Check = Callable[[object], bool]


def text(value: object) -> bool:
    return type(value) is str


def filled(value: object) -> bool:
    return type(value) is str and value != ""


def number(value: object) -> bool:
    return type(value) is int and value >= 0


def count(value: object) -> bool:
    return type(value) is int and (value > 0 or value == -1)


def minutes(value: object) -> bool:
    return type(value) is int and -24 * 60 < value < 24 * 60


def flag(value: object) -> bool:
    return type(value) is bool


def digits(value: object) -> bool:
    return type(value) is str and value.isdecimal()


def table(**checks: Check) -> Check:
    """An object with these keys and no others."""
    named = {key.replace("_DASH_", "-"): check for key, check in checks.items()}
    return lambda value: (
        type(value) is dict and value.keys() == named.keys() and all(named[key](value[key]) for key in named)
    )


def rows(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def by_text(check: Check) -> Check:
    return lambda value: type(value) is dict and all(filled(key) and check(item) for key, item in value.items())


MEMORY = table(
    mem_total=number,
    mem_free=number,
    mem_unused=number,
    mem_buffers=number,
    mem_cached=number,
    swap_in=number,
    swap_out=number,
    pageflt=number,
    majflt=number,
    swap_usage=number,
    swap_total=number,
)

SHAPES: Mapping[str, Check] = {
    "heartbeat": table(free_DASH_ram=digits, memory_DASH_stat=MEMORY),
    "memory-stats": table(memory=MEMORY),
    "host-name": table(name=filled),
    "fqdn": table(fqdn=filled),
    "os-version": table(version=filled),
    "network-interfaces": table(interfaces=rows(table(name=filled, hw=text, inet=rows(filled), inet6=rows(filled)))),
    "applications": table(applications=rows(filled)),
    "active-user": table(name=filled),
    "disks-usage": table(
        disks=rows(table(path=filled, fs=filled, total=number, used=number)), mapping=by_text(table(name=filled))
    ),
    "number-of-cpus": table(count=count),
    "timezone": table(zone=filled, offset=minutes),
    "os-info": table(version=filled, distribution=text, codename=text, arch=filled, type=filled, kernel=text),
    "containers": table(list=rows(table(id=filled, names=rows(text), image=text, command=text, status=text))),
    "guest-tools": table(
        major=number,
        minor=number,
        micro=number,
        build=number,
        installed=flag,
        notUpgradable=flag,
        updated=number,
    ),
}

# Sent by the session itself: they tell that something happens, or answer something.
NO_REPORTS = frozenset(name for name in GUEST_TO_HOST if name.startswith("session-")) | {
    "echo",
    "uninstalled",
    "completion",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, PLAIN)


def check(name: str, arguments: dict[str, object]) -> None:
    assert SHAPES[name](arguments), arguments
    line = json.dumps({"__name__": name, **arguments}, allow_nan=False)
    assert len(line) + 1 < LINE_LIMIT_BYTES
    assert json.loads(line) == clean_value({"__name__": name, **arguments})


def collect(reports: Reports, name: str) -> dict[str, object] | ReportError:
    try:
        return reports.collect(name)
    except ReportError as error:
        return error


def test_table_of_this_test_holds_every_message() -> None:
    assert SHAPES.keys() == GUEST_TO_HOST.keys() - NO_REPORTS


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "memory-stats"])
def test_table_of_this_test_accepts_what_agents_send(name: str) -> None:
    assert SHAPES[name](FACTS[name])


@pytest.mark.parametrize("name", SHAPES)
def test_a_plain_guest(name: str, root: Path) -> None:
    check(name, Reports(Sources(), root).collect(name))


@pytest.mark.parametrize("name", SHAPES)
def test_this_machine(name: str) -> None:
    found = collect(Reports(Sources(applications=("*",))), name)
    if isinstance(found, ReportError):
        assert name in ("containers", "active-user"), found  # engines and logind of this machine are not ours
    else:
        check(name, found)


def test_contents_of_a_plain_guest(root: Path) -> None:
    reports = Reports(Sources(tools_version="1.4.0-12"), root)
    assert reports.collect("fqdn") == {"fqdn": "web.example.org"}
    assert reports.collect("host-name") == {"name": "web.example.org"}
    assert reports.collect("number-of-cpus") == {"count": 4}
    assert reports.collect("applications") == {"applications": ["linux-image-6.1-6.1.0-1"]}
    assert reports.collect("containers") == {"list": []}
    assert reports.collect("timezone") == {"zone": "Europe/Berlin", "offset": 0}
    assert reports.collect("disks-usage")["mapping"] == {"disk-of-web": {"name": "/dev/vda"}}
    assert reports.collect("network-interfaces") == {"interfaces": []}
    assert reports.collect("os-info")["codename"] == "bookworm"
    assert reports.collect("guest-tools")["build"] == 12
    assert reports.collect("heartbeat")["free-ram"] == "1"


def test_sources_reach_their_reports(root: Path) -> None:
    sources = Sources(ignored_filesystems=frozenset(["ext4"]), applications=("nothing",))
    assert Reports(sources, root).collect("disks-usage")["disks"] == []
    assert Reports(sources, root).collect("applications") == {"applications": []}
    found = Reports(Sources()).collect("network-interfaces")["interfaces"]
    assert isinstance(found, list)
    ignored = Sources(ignored_nics=frozenset(one["name"] for one in found))
    assert Reports(ignored).collect("network-interfaces") == {"interfaces": []}


def test_rates_and_tools_are_remembered_from_call_to_call(root: Path) -> None:
    reports = Reports(Sources(), root)
    first = reports.collect("guest-tools")["updated"]
    plant(root, {"etc/pv-drivers-not-upgradable": "", "proc/vmstat": "pgfault 10000000000000\n"})
    reports.collect("heartbeat")
    plant(root, {"proc/vmstat": "pgfault 90000000000000000\n"})
    memory = reports.collect("memory-stats")["memory"]
    assert isinstance(memory, dict)
    assert memory["pageflt"] > 0
    second = reports.collect("guest-tools")["updated"]
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second > first


@pytest.mark.parametrize("name", ["", "echo", "session-startup", "HEARTBEAT", "heart\nbeat\udcff"])
def test_names_of_no_report(name: str, root: Path) -> None:
    with pytest.raises(ReportError, match="nothing is reported") as caught:
        Reports(Sources(), root).collect(name)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["heartbeat", "memory-stats", "host-name", "fqdn", "disks-usage"])
def test_guest_without_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=rf"^{name}: ") as caught:
        Reports(Sources(), tmp_path).collect(name)
    assert str(caught.value).isprintable()
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\xff" * 100, b"\n" * 100, b"x" * 10_000, b"a - b\n" * 10, b"=:\t - 9"]
)
def test_guest_whose_files_are_garbage(content: bytes, tmp_path: Path) -> None:
    reports = Reports(Sources(applications=("*",)), plant(tmp_path, dict.fromkeys(PLAIN, content)))
    (tmp_path / "etc/localtime").write_bytes(content)
    for name in SHAPES:
        found = collect(reports, name)
        if isinstance(found, ReportError):
            assert str(found).isprintable()
        elif name not in ("host-name", "fqdn"):  # a guest may have no name
            check(name, found)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("two\nlines\x1b"), "containers: two\\nlines\\x1b"),
        (MemoryError(), "containers: MemoryError"),
        (RecursionError("deep"), "containers: deep"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), "containers: 'utf-8' codec can't decode"),
        (ZeroDivisionError("x" * 5000), "containers: " + "x" * 200),
    ],
)
def test_any_failure_is_one_line(error: Exception, line: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_root: Path) -> dict[str, object]:
        raise error

    monkeypatch.setattr(collection, "report_containers", fail)
    with pytest.raises(ReportError) as caught:
        Reports(Sources(), root).collect("containers")
    assert str(caught.value).startswith(line)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_failure_of_one_report_costs_it_alone(root: Path) -> None:
    reports = Reports(Sources(tools_version="none"), root)
    with pytest.raises(ReportError, match=r"^guest-tools: "):
        reports.collect("guest-tools")
    (root / "proc/meminfo").rename(root / "proc/away")
    with pytest.raises(ReportError):
        reports.collect("heartbeat")
    (root / "proc/away").rename(root / "proc/meminfo")
    check("heartbeat", reports.collect("heartbeat"))


@pytest.mark.parametrize("answer", [True, False, None])
def test_session_locked(answer: bool | None, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "read_lock_hint", lambda: answer)
    assert Reports(Sources(), root).session_locked() is answer
