"""Man pages and completions, as packagers build them."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrib.manual import list_pages

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
# All that the pages are made of.
MACROS = {".TH", ".SH", ".B", ".TP", ".nf", ".fi"}


def build(target: Path, columns: str) -> dict[str, str]:
    """Every file by its path below the target."""
    done = subprocess.run(
        [sys.executable, "-m", "contrib.manual", str(target)],
        cwd=REPOSITORY,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "COLUMNS": columns},
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    files = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert len(done.stdout.splitlines()) == len(files)
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return build(tmp_path_factory.mktemp("manual"), "200")


def test_every_program_has_a_page_and_completions(files: dict[str, str]) -> None:
    programs = {"sidecarctl": 1, "sidecard": 8, "sidecar-guest-agent": 8}
    expected = {f"man/{name}.{section}" for name, section in programs.items()}
    for name in programs:
        expected |= {f"completions/{path}" for path in (f"bash/{name}", f"zsh/_{name}", f"fish/{name}.fish")}
    assert set(files) == expected
    assert all(files.values())


def test_the_same_sources_make_the_same_files(files: dict[str, str], tmp_path: Path) -> None:
    assert build(tmp_path, "40") == files
    assert all("2023\\-11\\-14" in text for name, text in files.items() if name.startswith("man/"))


def find_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from find_commands(command)


def test_a_page_names_every_command_and_option(files: dict[str, str]) -> None:
    for page in list_pages():
        text = files[f"man/{page.name}"].replace("\\-", "-")
        for command in find_commands(page.parser):
            assert command.prog in text
            for action in command._actions:
                if action.option_strings != ["-h", "--help"]:
                    assert all(option in text for option in action.option_strings)
                assert action.help or isinstance(action, argparse._SubParsersAction)


def test_a_page_is_written_in_mans_language(files: dict[str, str]) -> None:
    for name, text in files.items():
        if name.startswith("man/"):
            lines = text.splitlines()
            assert lines[0].startswith(".TH ")
            assert {line.split(" ")[0] for line in lines if line.startswith(".")} <= MACROS
            assert not [line for line in lines if line.startswith("'")]
            sections = [line for line in lines if line.startswith(".SH ")]
            assert sections[0] == ".SH NAME"
            assert sections[-1] == ".SH SEE ALSO"


def test_exit_codes_and_files_have_sections(files: dict[str, str]) -> None:
    text = files["man/sidecarctl.1"]
    found = dict(re.findall(r"\.TP\n\\fB([0-4])\\fR\n(.+)", text))
    assert list(found) == list("01234")
    for word in (".SH ENVIRONMENT", "SIDECAR_SOCKET", "NO_COLOR", "/run/sidecar/api.sock", "api\\-ro.sock"):
        assert word in text


def test_the_daemons_exit_codes(files: dict[str, str]) -> None:
    found = dict(re.findall(r"\.TP\n\\fB(\d)\\fR\n(.+)", files["man/sidecard.8"]))
    assert list(found) == list("012")
    assert found["1"] == "another sidecard runs already"


def test_every_default_is_told_where_it_stands(files: dict[str, str]) -> None:
    for name, text in files.items():
        assert not re.search(r"default: as", text), name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["wa"], {"wait"}),
        (["wait", "vm1", "--for", "un"], {"unversioned"}),
        (["preflight", "--of"], {"--offer"}),
        (["hooks", "st"], {"status"}),
        (["preflight", "vm1", "--offer", "sidecar/cli/ma"], {"sidecar/cli/main.py"}),
    ],
)
def test_bash_completes(files: dict[str, str], words: list[str], expected: set[str]) -> None:
    script = 'COMP_WORDS=(sidecarctl "$@"); COMP_CWORD=$#; _shtab_sidecarctl; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{files['completions/bash/sidecarctl']}\n{script}", "bash", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        timeout=LIMIT_S,
    )
    assert expected == set(done.stdout.split())
