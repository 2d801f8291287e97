from pathlib import Path

import pytest

from sidecar.guest.reports.memory import MemoryReport
from tests.guest.reports.guest_tree import PLAIN, plant


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, PLAIN)


def rates(report: MemoryReport) -> list[object]:
    table = report.report_memory()["memory"]
    assert isinstance(table, dict)
    return [table[key] for key in ("swap_in", "swap_out", "pageflt", "majflt")]


def test_heartbeat(root: Path) -> None:
    assert MemoryReport(root).report_heartbeat() == {
        "free-ram": "1",  # 1500 KiB
        "memory-stat": {
            "mem_total": 4000,
            "mem_free": 1500,
            "mem_unused": 1000,
            "mem_buffers": 200,
            "mem_cached": 300,
            "swap_in": 0,
            "swap_out": 0,
            "pageflt": 0,
            "majflt": 0,
            "swap_usage": 500,
            "swap_total": 2000,
        },
    }


def test_memory_stats_have_the_same_table(root: Path) -> None:
    assert MemoryReport(root).report_memory() == {"memory": MemoryReport(root).report_heartbeat()["memory-stat"]}


def test_rates_are_of_the_time_since_the_last_call(root: Path, clock: Clock) -> None:
    report = MemoryReport(root, clock)
    assert rates(report) == [0, 0, 0, 0]
    plant(root, {"proc/vmstat": "pgfault 5003\npgmajfault 4\npswpin 101\npswpout 17\n"})
    clock.now += 10
    assert rates(report) == [10, 1, 500, 0]
    clock.now += 10
    assert rates(report) == [0, 0, 0, 0]


def test_two_calls_at_once_tell_the_same(root: Path, clock: Clock) -> None:
    report = MemoryReport(root, clock)
    rates(report)
    plant(root, {"proc/vmstat": "pswpin 11\npswpout 2\npgfault 3\npgmajfault 4\n"})
    clock.now += 10
    assert rates(report) == rates(report) == [1, 0, 0, 0]


def test_counter_that_went_back_is_no_rate(root: Path, clock: Clock) -> None:
    report = MemoryReport(root, clock)
    plant(root, {"proc/vmstat": "pswpin 1000\npswpout 1000\npgfault 1000\npgmajfault 4\n"})
    rates(report)
    plant(root, {"proc/vmstat": "pswpin 0\npswpout 0\npgfault 0\npgmajfault 14\n"})
    clock.now += 10
    assert rates(report) == [0, 0, 0, 1]


@pytest.mark.parametrize("vmstat", [None, "", "garbage", "pswpin\npswpout x\npgfault -3\npgmajfault 1e9\n"])
def test_heartbeat_goes_on_without_counters(vmstat: str | None, root: Path, clock: Clock) -> None:
    report = MemoryReport(root, clock)
    rates(report)
    (root / "proc/vmstat").unlink()
    plant(root, {"proc/vmstat": vmstat} if vmstat is not None else {})
    clock.now += 10
    assert rates(report) == [0, 0, 0, 0]
    plant(root, {"proc/vmstat": "pgfault 1000\n"})  # not a rate since the start
    clock.now += 10
    assert rates(report) == [0, 0, 0, 0]


@pytest.mark.parametrize("missing", ["Buffers", "Cached", "SwapTotal", "SwapFree"])
def test_what_a_kernel_may_lack_counts_as_nothing(missing: str, root: Path) -> None:
    lines = PLAIN["proc/meminfo"].splitlines(keepends=True)
    plant(root, {"proc/meminfo": "".join(line for line in lines if not line.startswith(missing))})
    table = MemoryReport(root).report_memory()["memory"]
    assert isinstance(table, dict)
    expected = {
        "Buffers": {"mem_buffers": 0, "mem_free": 1300},
        "Cached": {"mem_cached": 0, "mem_free": 1200},
        "SwapTotal": {"swap_total": 0, "swap_usage": 0},
        "SwapFree": {"swap_total": 2000, "swap_usage": 2000},
    }
    assert table | expected[missing] == table


@pytest.mark.parametrize("meminfo", ["", "MemTotal: 1 kB\n", "MemFree: 1 kB\n", "MemTotal: x\nMemFree: " + "9" * 5000])
def test_meminfo_that_says_nothing_is_an_error(meminfo: str, root: Path) -> None:
    plant(root, {"proc/meminfo": meminfo})
    with pytest.raises(ValueError, match="neither"):
        MemoryReport(root).report_heartbeat()


def test_meminfo_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MemoryReport(tmp_path).report_heartbeat()
