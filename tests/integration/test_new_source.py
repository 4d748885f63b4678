"""A source of somebody else is one file, one config and one row: those of the page on adding one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from adapt.compare import Comparison
from adapt.files import read_json
from tests.command_line import TINY, call, output_folder
from tests.conformance import test_sources
from tests.unit.test_docs import blocks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With ``stripes.py`` and ``conf/task/stripes.yaml``."""
    (module,) = [text for text in blocks("python") if "class Stripes" in text]
    (config,) = [text for text in blocks("yaml") if "tasks.Stripes" in text]
    (tmp_path / "stripes.py").write_text(module, encoding="utf-8")
    (tmp_path / "conf" / "task").mkdir(parents=True)
    text = config.replace("tasks.Stripes", "stripes.Stripes")
    (tmp_path / "conf" / "task" / "stripes.yaml").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stripes", raising=False)
    return tmp_path


def test_the_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = importlib.import_module("stripes").Stripes
    monkeypatch.setattr(test_sources, "SOURCES", {"stripes": lambda: kind(size=16)})
    test_sources.test_source_keeps_its_contract("stripes")


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (("task=stripes", "task.ways=2", "task.outside=2"), {"outside": 2}),
        (("task=noisy", "task@task.base=stripes", "task.share=0.4"), {"label noise": 0.4}),
    ],
    ids=["by itself", "within other tasks"],
)
def test_the_config(task: tuple[str, ...], says: dict[str, float], folder: Path) -> None:
    few = [word for word in TINY if not word.startswith(("task.ways", "task.queries"))]
    assert call(["--config-dir", "conf", *few, "allow=[stripes]", *task], folder) == 0
    result = Comparison.from_dict(read_json(output_folder(folder) / "comparison.json"))
    assert result.task["source"] == "stripes" and says.items() <= result.task.items()
