from pathlib import Path

import pytest

from sidecar.guest.reports.host_names import report_fqdn, report_host_name
from tests.guest.reports.guest_tree import plant

HOSTS = "127.0.0.1 localhost\n"


def names(root: Path, **files: str | bytes) -> str:
    paths = {
        "hostname": "proc/sys/kernel/hostname",
        "hosts": "etc/hosts",
        "resolv": "etc/resolv.conf",
        "nis": "proc/sys/kernel/domainname",
    }
    plant(root, {paths[key]: content for key, content in files.items()})
    found = report_fqdn(root)["fqdn"]
    assert report_host_name(root) == {"name": found}
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("127.0.1.1 web.example.org web\n", "web.example.org"),
        ("::1\tWEB \t Web.Example.org\t# web.comment.org\n", "Web.Example.org"),
        ("10.0.0.1 web.example.org\n", "web"),  # another's, perhaps: ours is not in the line
        ("10.0.0.1 db.example.org web\n", "web"),
        ("127.0.0.1 localhost.localdomain localhost web\n", "web"),
        ("10.0.0.1 web\n10.0.0.1 web.second.org web\n", "web.second.org"),
        ("# 127.0.1.1 web.example.org web\n", "web"),
        ("web.example.org web", "web"),  # no address
        ("\n \n#\n\xff\n", "web"),
        ("", "web"),
    ],
)
def test_hosts_file_qualifies_the_name(hosts: str, expected: str, tmp_path: Path) -> None:
    assert names(tmp_path, hostname="web\n", hosts=HOSTS + hosts) == expected


@pytest.mark.parametrize(
    ("resolv", "expected"),
    [
        ("domain example.org\n", "web.example.org"),
        ("search example.org.\nnameserver 192.0.2.1\n", "web.example.org"),
        ("search one.org two.org\n", "web"),  # nobody knows which
        ("domain one.org\nsearch two.org\n", "web.two.org"),
        ("domain one.org\nsearch two.org three.org\n", "web"),
        ("search .\n", "web"),
        ("search\ndomain\n", "web"),
        ("nameserver 192.0.2.1\n", "web"),
    ],
)
def test_domain_of_the_resolver_qualifies_it_otherwise(resolv: str, expected: str, tmp_path: Path) -> None:
    assert names(tmp_path, hostname="web\n", hosts=HOSTS, resolv=resolv) == expected


def test_hosts_file_counts_more_than_the_resolver(tmp_path: Path) -> None:
    found = names(tmp_path, hostname="web", hosts="127.0.1.1 web.one.org web", resolv="domain two.org")
    assert found == "web.one.org"


def test_name_that_is_qualified_stays(tmp_path: Path) -> None:
    found = names(tmp_path, hostname="web.own.org", hosts="127.0.1.1 web.own.org.more web.own.org", resolv="domain x")
    assert found == "web.own.org"


def test_domain_of_nis_does_not_count(tmp_path: Path) -> None:
    assert names(tmp_path, hostname="web", nis="nis.example.org") == "web"


def test_without_other_files(tmp_path: Path) -> None:
    assert names(tmp_path, hostname="web\n") == "web"


def test_odd_bytes_are_cleaned(tmp_path: Path) -> None:
    assert names(tmp_path, hostname=b"w\xffb\x1b\n", resolv=b"domain \xfe.org") == "w\ufffdb\ufffd.\ufffd.org"


def test_files_in_their_place_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "etc/hosts").mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").symlink_to("/dev/zero")
    assert names(tmp_path, hostname="web") == "web"


def test_no_name_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report_fqdn(tmp_path)
