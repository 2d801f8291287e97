"""``sidecarctl fleet``: what is asked, printed and warned of, and the exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.fleet import NAMES_LIMIT, list_names
from sidecar.cli.main import main
from tests.client.fake_daemon import problem, serve
from tests.client.samples import CAP, EVACUATION, FLEET, HERE, SILENT, answer_always, answer_well

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SIDECAR_SOCKET", str(path))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["fleet", *arguments])
        return code, *capsys.readouterr()

    return run


class TestHosts:
    def test_somebody_did_not_answer(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            code, out, err = run()
            assert daemon.lines == ["GET /v1/fleet?timeout=5.0"]
            assert (code, err) == (1, "sidecarctl: not everybody answered within 5 s: gamma\n")
            words = ("beta", "gamma", "silent ", "10.0 (debian-12)", "3 (vm1)", "7.2 (vm2)", CAP["raise_at"])
            assert all(word in out for word in words)
            code, out, err = run("--json")
            assert (code, json.loads(out), err.count("\n")) == (1, FLEET, 1)

    def test_everybody_answered(self, run: Run, path: Path) -> None:
        whole = FLEET | {"complete": True, "hosts": [HERE, SILENT | {"answered": True}]}
        with serve(path, answer_always(whole)):
            code, _, err = run()
            assert (code, err) == (0, "")
            code, out, err = run("--json")
            assert (code, json.loads(out), err) == (0, whole, "")

    @pytest.mark.parametrize("hosts", [[HERE], [HERE, SILENT]])
    def test_nobody_could_be_asked(self, run: Run, path: Path, hosts: list[dict[str, Any]]) -> None:
        alone = FLEET | {"hosts": hosts, "problem": "there is no connection\nto the message bus"}
        with serve(path, answer_always(alone)):
            code, out, err = run()
            assert (code, err) == (1, "sidecarctl: there is no connection\\nto the message bus\n")
            assert "beta" in out
            code, out, err = run("--json")
            assert (code, json.loads(out), err.count("\n")) == (1, alone, 1)

    def test_a_host_of_an_older_api_answered(self, run: Run, path: Path) -> None:
        older = SILENT | {"answered": True, "bridge": "1.1"}
        with serve(path, answer_always(FLEET | {"complete": True, "hosts": [HERE, older]})):
            code, out, err = run()
        assert (code, err) == (0, "")
        (row,) = [line.split() for line in out.split("\n") if line.startswith("gamma")]
        assert (row[1], row[3], row[-3:]) == ("yes", "1.1", ["-", "-", "-"])

    def test_the_time_is_handed_on(self, run: Run, path: Path) -> None:
        with serve(path, answer_always(FLEET)) as daemon:
            assert "within 2.5 s" in run("--timeout", "2.5")[2]
            assert daemon.lines == ["GET /v1/fleet?timeout=2.5"]

    @pytest.mark.parametrize("arguments", [(), ("preflight", "beta"), ("forget", "gamma")])
    def test_there_is_no_bus(self, run: Run, path: Path, arguments: tuple[str, ...]) -> None:
        with serve(path, lambda call: problem("bus-unavailable", 503, "no message bus is configured")):
            expected = "sidecarctl: no message bus is configured (bus-unavailable)\n"
            assert run(*arguments) == (1, "", expected)

    @pytest.mark.parametrize("arguments", [(), ("preflight", "beta")])
    @pytest.mark.parametrize("document", [[], 3, {"guests": 3, "hosts": 3}, {"guests": [3], "hosts": [3]}])
    def test_an_answer_that_is_none(self, run: Run, path: Path, arguments: tuple[str, ...], document: Any) -> None:
        with serve(path, answer_always(document)):
            code, out, err = run(*arguments)
        assert (code, out, err.count("\n")) == (3, "", 1)

    @pytest.mark.parametrize("arguments", [(), ("preflight", "beta")])
    def test_an_answer_with_holes(self, run: Run, path: Path, arguments: tuple[str, ...]) -> None:
        document = {"hosts": [{}], "guests": [{"losing": [{"channels": [{"lost": [{}]}]}]}], "unanswered": [None]}
        with serve(path, answer_always(document)):
            code, out, err = run(*arguments)
        assert (code, bool(out), err.count("\n")) == (1, True, 1)


class TestForget:
    def test_it_is_told(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            assert run("forget", "gamma") == (0, "gamma is forgotten, until it is heard again\n", "")
            assert daemon.lines == ["POST /v1/fleet/gamma/forget"]

    def test_nobody_of_that_name(self, run: Run, path: Path) -> None:
        with serve(path, lambda call: problem("host-not-found", 404, "the fleet knows no host 'x'")):
            assert run("forget", "x") == (1, "", "sidecarctl: the fleet knows no host 'x' (host-not-found)\n")


class TestPreflight:
    def test_a_guest_that_must_lose(self, run: Run, path: Path) -> None:
        with serve(path, answer_well) as daemon:
            code, out, err = run("preflight", "beta")
            assert daemon.lines == ["GET /v1/fleet/beta/preflight?timeout=5.0"]
            told = "no host that answered would keep the agreements of vm2; not everybody answered within 5 s: gamma"
            assert (code, err) == (1, f"sidecarctl: {told}\n")
            assert all(word in out for word in ("alpha, delta", "1 message: hibernate", "ovirt 3 is required"))
            assert out.endswith("\n\ndid not answer: gamma\n")
            code, out, err = run("preflight", "beta", "--json")
            assert (code, json.loads(out), err.count("\n")) == (1, EVACUATION, 1)

    def test_all_can_go_somewhere(self, run: Run, path: Path) -> None:
        kept = EVACUATION | {"guests": EVACUATION["guests"][:1], "unanswered": []}
        with serve(path, answer_always(kept)):
            code, out, err = run("preflight", "beta")
            assert (code, err) == (0, "")
            assert "did not answer" not in out

    def test_who_did_not_answer_changes_no_verdict(self, run: Run, path: Path) -> None:
        kept = EVACUATION | {"guests": EVACUATION["guests"][:1]}
        with serve(path, answer_always(kept)):
            code, out, err = run("preflight", "beta", "--timeout", "2")
            assert (code, err) == (0, "sidecarctl: not everybody answered within 2 s: gamma\n")
            code, out, err = run("preflight", "beta", "--json")
            assert (code, json.loads(out), err.count("\n")) == (0, kept, 1)

    def test_another_host_is_too_old(self, run: Run, path: Path) -> None:
        words = "host gamma: this daemon serves 1.1"
        with serve(path, lambda call: problem("unsupported-version", 406, words, host="gamma")):
            assert run("preflight", "gamma") == (1, "", f"sidecarctl: {words} (unsupported-version)\n")

    def test_no_guests(self, run: Run, path: Path) -> None:
        with serve(path, answer_always(EVACUATION | {"guests": [], "unanswered": []})):
            assert run("preflight", "beta") == (0, "no guest runs on beta\n", "")


@pytest.mark.parametrize(
    ("count", "end"), [(0, ""), (1, "0"), (NAMES_LIMIT, f", {NAMES_LIMIT - 1}"), (NAMES_LIMIT + 7, "19 and 7 more")]
)
def test_many_names_are_cut(count: int, end: str) -> None:
    assert list_names([str(number) for number in range(count)]).endswith(end)
