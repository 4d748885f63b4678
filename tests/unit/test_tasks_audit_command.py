"""`python -m tasks.audit`: what is typed, what is written, the exit codes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import tasks
from tasks import TaskError, TaskWarning, VehicleDynamics
from tasks.audit import audit
from tasks.audit.__main__ import main
from tasks.audit.named import make_source, parse
from tasks.audit.report import Finding, Place, Report
from tests import processes
from tests.audited import CARD, POOLS, noise

ROOT = Path(__file__).resolve().parents[2]


def letters(n: int = 80, leak: bool = False) -> tasks.ArraySource:
    """A source of one's own, as a user would write it."""
    x = noise(n)
    if leak:
        x[50] = x[3]
    if n == 85:
        warnings.warn("five examples were left out", TaskWarning, stacklevel=2)
    return tasks.ArraySource(CARD, x, POOLS)


HERE = f"{__name__}.letters"
ALLOW = ["--allow", __name__]


@pytest.mark.parametrize("name", ["vehicle_dynamics", "VehicleDynamics", "tasks.VehicleDynamics"])
def test_names_in_any_spelling(name: str) -> None:
    source = make_source(name, {"noise": 0.5})
    assert isinstance(source, VehicleDynamics) and source.noise == 0.5


@pytest.mark.parametrize("public", tasks.__all__)
def test_every_exported_name_has_its_own_spelling(public: str) -> None:
    assert [
        other for other in tasks.__all__ if other.replace("_", "").lower() == public.replace("_", "").lower()
    ] == [public]


def test_settings() -> None:
    assert parse(["a=1", "b=1.5", "c=[1, 'x']", "d=none of these", "e=null", "f=False", "g=a=b", "h="]) == {
        "a": 1,
        "b": 1.5,
        "c": [1, "x"],
        "d": "none of these",
        "e": None,
        "f": False,
        "g": "a=b",
        "h": "",
    }


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("digitss", {}, "there is no source 'digitss': did you mean Digits?"),
        ("quux", {}, "name one that `tasks` exports"),
        ("digits", {"sise": 8}, "did you mean size?"),
        ("sinusoid", {"xyz": 8}, "does not take these settings"),
        ("task_error", {}, "there is no source"),
        ("choice", {"values": [1, 2]}, "there is no source"),
        ("no_such_package.letters", {}, "add --allow no_such_package"),
        ("os.system", {"command": "true"}, "no source of ours"),
        ("tasks.audit.named.make_source", {"name": "digits"}, "no source of ours"),
        ("tests.audited.nothing", {}, "cannot be imported"),
        ("tests.audited.noise", {}, "makes no source, but a ndarray"),
    ],
)
def test_mistakes_in_names_and_settings(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message.replace("?", r"\?")):
        make_source(name, settings, ["tests.audited"])


@pytest.mark.parametrize("arguments", [["size"], ["si ze=1"], ["=1"], ["a=1", "a=2"]])
def test_mistakes_in_what_is_typed(arguments: list[str]) -> None:
    with pytest.raises(TaskError, match=r"write key=value|set twice"):
        parse(arguments)


def test_a_report_of_ones_own_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"source={HERE}", *ALLOW, "n=90", "--out", str(tmp_path / "a" / "b")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "planted: 0 errors, 0 warnings, 1 note (80 of 80 examples)"
    assert printed[1].split() == ["severity", "check", "count", "finding"]
    assert printed[2].startswith("note ")
    assert printed[-1] == f"report  {tmp_path / 'a' / 'b'}"
    read = json.loads((tmp_path / "a" / "b" / "report.json").read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(audit(letters(90)).to_dict()))
    page = (tmp_path / "a" / "b" / "report.md").read_text(encoding="utf-8")
    assert page == audit(letters(90)).markdown()
    assert {"# Audit of planted", "## Splits", "## Findings", "## How it was checked"} < set(
        page.splitlines()
    )
    assert "| support | 2 | 40 | 20 | 20 |" in page.splitlines()


def test_an_error_among_the_findings_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([HERE, *ALLOW, "leak=true"]) == 1
    assert "outputs/audit/planted" in capsys.readouterr().out
    page = Path("outputs/audit/planted/report.md").read_text(encoding="utf-8")
    assert "- 3 (support, 'a') = 50 (query, 'a')" in page.splitlines()
    assert main(["--seed", "1", HERE, *ALLOW, "--sample", "80", "leak=true"]) == 1  # options anywhere


def test_what_the_source_warns_of_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([HERE, *ALLOW, "n=85", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "warning: five examples were left out\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        [HERE],
        [HERE, *ALLOW, "leak"],
        [HERE, *ALLOW, "--apart", "support"],
        [HERE, *ALLOW, "--apart", "support:qury"],
        [HERE, *ALLOW, "--sample", "0"],
        [HERE, *ALLOW, "--out", __file__],
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    done = processes.run(["-m", "tasks.audit", "sinusoid", "--out", str(tmp_path)], ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sinusoid: 0 errors")


def test_what_a_page_cannot_hold_is_escaped() -> None:
    card = {**CARD.to_dict(), "description": "two\nlines | a bar", "known_issues": []}
    places = (Place(1, "a|b", "s"), Place(2, "c", "s"))
    findings = (Finding("labels", "error", "what.", 1, "fix.", (places,)),)
    page = Report("n", "d", card, "arrays", {"a|b": {"classes": 1}}, (), ("m.",), 2, 2, findings).markdown()
    lines = page.splitlines()
    assert "| data | two lines \\| a bar |" in lines
    assert "| a\\|b | 1 |" in lines
    assert "- 1 (s, 'a|b') = 2 (s, 'c')" in lines
    assert "- none named" in lines
