"""A journal whose process died between two of its files: what was sent is known, or looked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adapt.tracking import forget, left, prepare_store, track
from adapt.tracking.journal import Journal
from tests.tracked import HEADER, runs, settings

mlflow = pytest.importorskip("mlflow")


def started(folder: Path, **more: Any) -> Journal:
    return Journal.start(folder, {**HEADER, **more})


def test_the_state_of_a_journal_that_was_being_removed_is_not_another_one_s(tmp_path: Path) -> None:
    """Its journal was removed, its state not yet."""
    first = started(tmp_path)
    first.append({"do": "metrics", "run": "", "points": []})
    first.state.update(position=first.size, runs={"": "of the first"})
    first.save()
    first.close()
    (tmp_path / "tracking" / "journal.jsonl").unlink()

    second = started(tmp_path)
    assert second.state["position"] == 0 and not second.state["runs"]
    second.close()


def test_a_journal_that_was_cut_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    """All was sent, and the journal was cut to its head; that was not noted yet."""
    first = started(tmp_path)
    for step in range(9):
        first.append({"do": "metrics", "run": "", "points": [["loss", 0.0, 0, step]]})
    first.state.update(position=first.size, runs={"": "id"})
    first.save()
    first.close()
    path = tmp_path / "tracking" / "journal.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])

    again = started(tmp_path)
    again.append({"do": "reopen", "run": ""})
    ((operation, _),) = again.read(again.state["position"], 9)
    assert operation["do"] == "reopen" and again.state["runs"] == {"": "id"}
    again.close()


@pytest.mark.parametrize("damage", ["gone", "half", "not ours"])
def test_runs_are_looked_for_where_nobody_knows_what_was_sent(
    damage: str, root: Path, tmp_path: Path
) -> None:
    name = damage.replace(" ", "")
    given = settings(root=str(root), experiment=name)
    with pytest.raises(KeyError), track(given, "work", folder=tmp_path) as first:
        assert first.run_id
        shutil.copytree(tmp_path / "tracking", tmp_path / "kept", ignore=shutil.ignore_patterns(".*"))
        raise KeyError
    shutil.rmtree(tmp_path / "tracking")
    (tmp_path / "kept").rename(tmp_path / "tracking")
    state = tmp_path / "tracking" / "state.json"
    match damage:
        case "gone":
            state.unlink()
        case "half":
            state.write_text(state.read_text()[:20])
        case "not ours":
            state.write_text("[]")

    with track(given, "work", folder=tmp_path) as again:
        pass
    (run,) = runs(mlflow.MlflowClient(tracking_uri=prepare_store(root)), name)
    assert (run.info.run_id, run.info.status) == (first.run_id, "FINISHED") and again.run_id == first.run_id


def test_a_journal_is_kept_until_its_run_is_over(tmp_path: Path) -> None:
    end = {"do": "end", "run": "", "status": "FINISHED"}
    kept = started(tmp_path, keep=True)
    kept.append(end)
    kept.state.update(position=kept.size, over=True, status="FINISHED", runs={"": "id"})
    kept.finish(resumable=kept.keep)
    assert left(tmp_path)

    again = started(tmp_path, keep=True)
    assert again.state["runs"] == {"": "id"}
    assert not forget(tmp_path), "a process has it"
    again.append({"do": "reopen", "run": ""})
    again.append(end)
    again.close()
    assert not forget(tmp_path), "it was not sent"
    found = Journal.found(tmp_path / "tracking")
    assert found is not None and not found.keep, "who sends it removes it"
    found.close()

    other = started(tmp_path)
    assert other.header["journal"] != again.header["journal"], (
        "what has finished stays so for who does not keep it"
    )
    other.close()


def test_a_journal_is_there_with_its_head_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("adapt.tracking.journal.write_text", full)
    with pytest.raises(OSError, match="full"):
        started(tmp_path)
    assert not left(tmp_path)
    monkeypatch.undo()
    whole = started(tmp_path)
    whole.close()
    (line,) = (tmp_path / "tracking" / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["journal"] == whole.header["journal"]
