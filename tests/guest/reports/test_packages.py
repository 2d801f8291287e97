import subprocess
from pathlib import Path

import pytest

from sidecar.guest.reports import packages
from sidecar.guest.reports.bounds import LIST_LIMIT_BYTES
from sidecar.guest.reports.packages import PACKAGES_LIMIT, report_packages
from tests.guest.reports.guest_tree import plant, plant_program

ALL = ("*",)


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def paragraph(name: str, version: str = "1.0-1", state: str = "install ok installed", more: str = "") -> str:
    return f"Package: {name}\nStatus: {state}\n{more}Version: {version}\nDescription: x\n long text\n .\n more\n\n"


def names(root: Path, status: str | bytes | None, patterns: tuple[str, ...] = ALL) -> list[str]:
    found = report_packages(patterns, plant(root, {"var/lib/dpkg/status": status} if status is not None else {}))
    assert list(found) == ["applications"]
    rows = found["applications"]
    assert isinstance(rows, list)
    return rows


class TestDpkg:
    def test_installed_packages_sorted_once(self, tmp_path: Path) -> None:
        status = paragraph("b", "2:1.0~rc1-1+b2") + paragraph("a") + paragraph("a")  # of two architectures
        assert names(tmp_path, status) == ["a-1.0-1", "b-2:1.0~rc1-1+b2"]

    @pytest.mark.parametrize("state", ["installed", "triggers-awaited", "triggers-pending"])
    @pytest.mark.parametrize("wish", ["install ok", "hold ok", "deinstall ok"])
    def test_what_counts_as_installed(self, wish: str, state: str, tmp_path: Path) -> None:
        assert names(tmp_path, paragraph("a", state=f"{wish} {state}")) == ["a-1.0-1"]

    @pytest.mark.parametrize(
        "state", ["config-files", "half-installed", "unpacked", "half-configured", "not-installed"]
    )
    def test_what_does_not(self, state: str, tmp_path: Path) -> None:
        assert names(tmp_path, paragraph("a", state=f"install ok {state}")) == []

    def test_default_is_what_a_host_cares_about(self, tmp_path: Path) -> None:
        wanted = (
            *("linux-image-6.1.0-25-amd64", "linux-image-amd64", "qemu-guest-agent", "libvirt-sidecar-guest-agent"),
            *("ovirt-guest-agent-common", "spice-vdagent", "xe-guest-utilities", "open-vm-tools"),
        )
        others = ("bash", "linux-headers-amd64", "libvirt0", "my-qemu-guest-agent", "kernel-wedge")
        found = report_packages(root=plant(tmp_path, {"var/lib/dpkg/status": "".join(map(paragraph, wanted + others))}))
        assert found == {"applications": sorted(f"{name}-1.0-1" for name in wanted)}

    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [((), []), (("a",), ["a-1"]), (("a*",), ["a-1", "ab-1"]), (("?b", "zz"), ["ab-1"]), (("A", "[", ""), [])],
    )
    def test_patterns(self, patterns: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
        assert names(tmp_path, paragraph("a", "1") + paragraph("ab", "1") + paragraph("b", "1"), patterns) == expected

    @pytest.mark.parametrize(
        "broken",
        [
            "Package: x\nStatus: install ok installed\n\n",  # no version
            "Package: x\nVersion: 1\n\n",
            "Status: install ok installed\nVersion: 1\n\n",
            "Package:\nStatus: install ok installed\nVersion:\n\n",
            "Package: x\nStatus:\nVersion: 1\n\n",
            "\n\n\n \n",
            "\x00\xff\ufffe garbage\n\n",
            " Package: x\n Status: install ok installed\n Version: 1\n\n",
            "Package: " + "x" * 10 + "\nInstalled-Size: 1\n\n",
        ],
    )
    def test_broken_paragraph_costs_itself_alone(self, broken: str, tmp_path: Path) -> None:
        assert names(tmp_path, paragraph("a") + broken + paragraph("b")) == ["a-1.0-1", "b-1.0-1"]

    @pytest.mark.parametrize("end", ["", "\n"])
    def test_file_that_ends_within_a_paragraph(self, end: str, tmp_path: Path) -> None:
        status = "Package: a\nStatus: install ok installed\nVersion: 1" + end
        assert names(tmp_path, paragraph("b") + status) == ["a-1", "b-1.0-1"]

    def test_rest_of_a_long_line_is_no_field(self, tmp_path: Path) -> None:
        long = "Conffiles: " + "x" * (64 * 1024 - 11) + "Package: forged\n"
        assert names(tmp_path, paragraph("a", more=long)) == ["a-1.0-1"]

    def test_names_are_cleaned_and_cut(self, tmp_path: Path) -> None:
        status = paragraph("A\x1b").encode() + b"Package: b\xff\nStatus: install ok installed\nVersion: 1\n\n"
        assert names(tmp_path, status + paragraph("c", "1" * 5000).encode()) == [
            "A\ufffd-1.0-1",
            "b\ufffd-1",
            "c-" + "1" * 256,
        ]

    def test_long_lists_are_cut(self, tmp_path: Path) -> None:
        assert len(names(tmp_path, "".join(paragraph(f"p{n}") for n in range(PACKAGES_LIMIT + 5)))) == PACKAGES_LIMIT
        found = names(tmp_path, "".join(paragraph(f"{n}" + "x" * 200, "1" * 200) for n in range(3000)))
        assert 900 < len(found) < 1000
        assert sum(map(len, found)) < LIST_LIMIT_BYTES

    def test_what_is_over_the_limit_is_not_even_collected(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "PACKAGES_LIMIT", 2)
        assert names(tmp_path, paragraph("c") + paragraph("b") + paragraph("a")) == ["b-1.0-1", "c-1.0-1"]

    def test_endless_database_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "_STATUS_LIMIT_BYTES", 1000)
        with pytest.raises(OSError, match="more than 1000 bytes"):
            names(tmp_path, paragraph("a") * 100)

    def test_database_that_is_no_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "var/lib/dpkg/status").mkdir(parents=True)
        with pytest.raises(OSError, match="status"):
            names(tmp_path, None)

    @pytest.mark.skipif(not Path("/var/lib/dpkg/status").exists(), reason="needs a Debian machine")
    def test_the_same_as_dpkg_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        query = ["/usr/bin/dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}-${Version}\n"]
        lines = subprocess.run(query, capture_output=True, check=True, text=True).stdout.splitlines()
        told = {line.removeprefix("installed ") for line in lines if line.startswith("installed ")}
        assert report_packages(ALL)["applications"] == sorted(told)


class TestRpm:
    @pytest.fixture(autouse=True, params=["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"])
    def database(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        directory: Path = tmp_path / request.param
        directory.mkdir(parents=True)
        return directory

    def test_asked_where_dpkg_has_nothing(self, programs: Path, tmp_path: Path) -> None:
        plant_program(
            programs, "rpm", r'[ "$1$2" = -qa--qf ] && printf "kernel\t6.1-1.el9\nbash\t5-1\n\nbroken\n\t1\n"'
        )
        for status in (None, "", paragraph("gone", state="deinstall ok config-files")):
            assert names(tmp_path, status) == ["bash-5-1", "kernel-6.1-1.el9"]
        assert report_packages(root=tmp_path) == {"applications": ["kernel-6.1-1.el9"]}

    def test_not_asked_where_dpkg_has_something(self, programs: Path, tmp_path: Path) -> None:
        plant_program(programs, "rpm", "exit 1")
        assert names(tmp_path, paragraph("a"), ("nothing",)) == []

    def test_neither(self, tmp_path: Path) -> None:
        assert names(tmp_path, None) == []

    def test_an_rpm_without_a_database_is_not_asked(self, programs: Path, tmp_path: Path, database: Path) -> None:
        plant_program(programs, "rpm", "exit 1")
        database.rmdir()
        assert names(tmp_path, None) == []

    def test_format_is_what_rpm_understands(self, programs: Path, tmp_path: Path) -> None:
        plant_program(programs, "rpm", f'printf "%s" "$3" > {tmp_path}/format')
        names(tmp_path, None)
        assert (tmp_path / "format").read_text() == "%{name}\t%{version}-%{release}\n"

    @pytest.mark.parametrize(
        ("script", "error"),
        [("exit 1", "status 1"), ("exec /bin/sleep 60", "in time"), ("while :; do echo x; done", "bytes")],
    )
    def test_failure_is_an_error(
        self, script: str, error: str, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "_RPM_LIMIT_S", 0.5 if "sleep" in script else 30.0)
        monkeypatch.setattr(packages, "_RPM_LIMIT_BYTES", 1000)
        plant_program(programs, "rpm", f'printf "kernel\t6.1-1\n"; {script}')
        with pytest.raises(OSError, match=error):
            names(tmp_path, None)
