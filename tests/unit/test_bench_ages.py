"""Benchmarks say what they depend on, and results know how many commits ago they were measured."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.ages import lines
from bench.lib.age import age, age_text, depends, without_ages
from bench.lib.paths import RESULTS, ROOT

#: Modules of ``bench`` that measure nothing.
TOOLS = {"__init__", "ages", "render", "screenshots"}
BENCHMARKS = sorted({path.stem for path in (ROOT / "bench").glob("*.py")} - TOOLS)
USER = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_a_benchmark_depends_on_exists(name: str) -> None:
    paths = depends(name)
    assert paths, f"bench/{name}.py declares no DEPENDS"
    assert len(set(paths)) == len(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_result_has_a_benchmark() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    assert {result["name"] for result in results if "name" in result} <= set(BENCHMARKS)


class Repository:
    """A small one: a benchmark of ``measured``, and its result at the first commit."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet")
        (root / "bench" / "results").mkdir(parents=True)
        (root / "bench" / "speed.py").write_text('"""."""\nimport nothing_there\nDEPENDS = ("measured",)\n')
        self.commit("measured/code.py")
        self.measure(self.git("rev-parse", "HEAD"))

    def git(self, *arguments: str) -> str:
        command = ["git", *USER, *arguments]
        return subprocess.run(
            command, cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, path: str) -> None:
        """Adds a line to a file."""
        (self.root / path).parent.mkdir(exist_ok=True)
        with (self.root / path).open("a") as file:
            file.write("more\n")
        self.git("add", path)
        self.git("commit", "--quiet", "--message", path)

    def measure(self, commit: str | None) -> dict[str, object]:
        self.result = {"name": "speed", "commit": commit, "date": "2026-11-29", "rows": []}
        (self.root / "bench" / "results" / "speed.json").write_text(json.dumps(self.result))
        (self.root / "bench" / "results" / "speed.runs.json").write_text('{"runs": []}')
        return self.result


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "one").mkdir()
    return Repository(tmp_path / "one")


def test_only_commits_to_what_is_measured_count(repository: Repository) -> None:
    assert [*lines(repository.root)] == []
    repository.commit("other/code.py")
    assert [*lines(repository.root)] == []
    repository.commit("measured/code.py")
    repository.commit("measured/more.py")
    (line,) = lines(repository.root)
    short = str(repository.result["commit"])[:8]
    assert line == f"speed: measured 2026-11-29 at {short}; commits since then to what it measures: 2"
    assert age_text(repository.result, repository.root).endswith(": 2")


def test_a_result_that_was_not_measured_in_this_history_has_no_age(repository: Repository) -> None:
    measured = repository.git("rev-parse", "HEAD")
    repository.git("commit", "--amend", "--quiet", "--message", "rewritten")
    for commit in (measured, "0" * 40, None):
        result = repository.measure(commit)
        assert age(commit, ("measured",), repository.root) is None
        assert age_text(result, repository.root).endswith(": unknown")
        (line,) = lines(repository.root)
        assert line.endswith("which is not in the history")


def test_without_the_whole_history_one_line_says_so(repository: Repository, tmp_path: Path) -> None:
    repository.git("add", ".")
    repository.commit("measured/code.py")
    shallow = tmp_path / "shallow"
    repository.git("clone", "--quiet", "--depth", "1", repository.root.as_uri(), str(shallow))
    assert [*lines(shallow)] == ["ages of results: unknown, the history of this checkout is shallow"]
    assert age_text(repository.result, shallow).endswith(": unknown")


def test_without_git_one_line_says_so(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    (copy / "bench" / "results").mkdir(parents=True)
    expected = ["ages of results: unknown, this is no checkout of git"]
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert [*lines(copy)] == expected
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [*lines(repository.root)] == expected
    assert age_text(repository.result, repository.root).endswith(": unknown")


def test_a_page_does_not_go_out_of_date_with_its_ages(repository: Repository) -> None:
    def page() -> str:
        return f"commit 12345678{age_text(repository.result, repository.root)}; torch 2.13.0; accuracy 97 %"

    before = page()
    repository.commit("measured/code.py")
    assert page() != before
    assert without_ages(page()) == without_ages(before)
    assert without_ages(page().replace("97", "98")) != without_ages(before)
    repository.measure(None)
    assert without_ages(page()) == without_ages(before)
