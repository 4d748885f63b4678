"""A run's folder may be somebody else's: what its journal names is sent only if it is in that folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

from adapt.errors import AdaptError
from adapt.tracking.journal import Journal, _short
from adapt.tracking.store import artifact_folder
from adapt.tracking.sync import sync

HEADER = {"experiment": "e", "name": "n", "uri": "http://localhost:1", "root": ".", "tags": {}}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Read by another process than the one that wrote it."""
    for name in ("run", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for file in ("secret", "run/mine", "here/mine"):
        (tmp_path / file).write_text(file, encoding="utf-8")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    written = Journal.start(tmp_path / "run", HEADER)
    paths = [
        str(tmp_path / name) for name in ("secret", "run/link", "run/../secret", "run/mine", "here/mine")
    ]
    written.append({"do": "files", "run": "", "paths": paths})
    assert all(written.file(path).exists() for path in paths), "its own process may send them"
    written.close()
    found = Journal.found(tmp_path / "run" / "tracking")
    assert found is not None
    return found


def test_files_elsewhere_are_neither_sent_nor_copied(journal: Journal, tmp_path: Path) -> None:
    for name in ("secret", "run/link", "run/../secret"):
        with pytest.raises(AdaptError, match="neither in the folder of its run"):
            journal.file(str(tmp_path / name))
    for name in ("run/mine", "here/mine"):
        assert journal.file(str(tmp_path / name)).read_text(encoding="utf-8") == name
    journal.keep_files()
    kept = [path.read_text(encoding="utf-8") for path in journal.folder.rglob("files/**/*") if path.is_file()]
    assert kept == ["here/mine"]
    journal.close()


def test_a_journal_put_aside_stays_in_its_folder(journal: Journal, tmp_path: Path) -> None:
    journal.header["journal"] = "../../x/"
    journal.put_aside()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "run", "secret"]
    assert any(path.name.startswith("earlier-") for path in (tmp_path / "run" / "tracking").iterdir())


@pytest.mark.parametrize("name", ["..", ".", "../..", "/", ".hidden", "a/../.."])
def test_artifacts_of_an_experiment_stay_in_the_store(name: str, tmp_path: Path) -> None:
    folder = artifact_folder(name)
    assert (tmp_path / folder).resolve().parent == tmp_path.resolve() and not folder.startswith(".")


@pytest.mark.parametrize("what", ["adapter", "copied"])
def test_a_folder_is_sent_with_what_its_links_lead_to(what: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    (tmp_path / "run" / "adapter" / "mine").write_text("mine", encoding="utf-8")
    journal = Journal.start(tmp_path / "run", HEADER)
    journal.close()
    found = Journal.found(tmp_path / "run" / "tracking")
    assert found is not None
    path = str(tmp_path / "run" / "adapter")
    assert found.file(path) == Path(path)
    place = (
        tmp_path / "run" / "adapter" if what == "adapter" else found.folder / "files" / _short("x") / "deep"
    )
    place.mkdir(parents=True, exist_ok=True)
    (place / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(AdaptError, match="neither in the folder of its run"):
        found.file(path if what == "adapter" else "x")
    found.close()


GOOD = {"do": "open", "run": "", "journal": "j", "temporary": False, "folder": "", "time": 0, **HEADER}
LINES: dict[str, Any] = {
    "no header": [{"do": "open", "run": ""}],
    "a header of another type": [{**GOOD, "root": 3}],
    "deep": "[" * 100_000,
    "an operation without its fields": [GOOD, {"do": "end", "run": ""}, {"do": "mark", "run": ""}],
    "no operation": [GOOD, 3, {"run": 1}],
}
STATES = {"position": "x", "runs": 3, "marks": None, "ended": {}, "over": "yes"}


@pytest.mark.parametrize("case", [*LINES, *STATES, "a pipe", "a device", "a pipe beside"])
def test_a_damaged_journal_is_named_and_the_others_are_sent(case: str, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "run" / "tracking"
    folder.mkdir(parents=True)
    lines = LINES.get(case, [GOOD])
    text = lines if isinstance(lines, str) else "\n".join(json.dumps(line) for line in lines)
    match case:
        case "a pipe":
            os.mkfifo(folder / "journal.jsonl")
        case "a device":
            (folder / "journal.jsonl").symlink_to("/dev/zero")
        case _:
            (folder / "journal.jsonl").write_text(f"{text}\n", encoding="utf-8")
    if case == "a pipe beside":
        os.mkfifo(folder / "state.json")
    elif case in STATES:
        (folder / "state.json").write_text(json.dumps({case: STATES[case]}), encoding="utf-8")
    report = sync([tmp_path], uri="http://localhost:1")  # nobody is there
    assert list(report.remaining) == [folder] and not report.sent
