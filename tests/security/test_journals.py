"""A run's folder may be somebody else's: what its journal names is sent only if it is in that folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mlflow")

from adapt.errors import AdaptError
from adapt.tracking.journal import Journal
from adapt.tracking.store import artifact_folder

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
