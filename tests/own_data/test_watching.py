"""A model in operation: what it is asked changes, which is noticed, written down and undone."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapt
from adapt.errors import AdaptError
from adapt.own_data.watching import Watching
from tests.processes import run
from tests.served import served

pytest.importorskip("mlflow")
CLASSES = "xyz"


def rows(n: int, seed: int, shift: float = 0.0, wrong: float = 0.0) -> list[dict[str, Any]]:
    """Three classes, each around a mean of its own, moved by ``shift``, with a share of wrong labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 3)) + 3 * np.eye(3)[y] + shift
    y = np.where(rng.random(n) < wrong, (y + 1) % 3, y)
    return [
        {**dict(zip("abc", map(float, row.round(3)), strict=True)), "label": CLASSES[label]}
        for row, label in zip(x, y, strict=True)
    ]


def written(path: Path, found: list[dict[str, Any]]) -> Path:
    lines = [",".join(found[0]), *(",".join(map(str, row.values())) for row in found)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("watched")
    adapt.fit_table(written(made / "train.csv", rows(90, 0))).save(made / "model")
    for name, changes in (("same", {}), ("moved", {"shift": 2.0}), ("wrong", {"wrong": 0.5})):
        written(made / f"{name}.csv", rows(200, 1, **changes))
    return made


@pytest.mark.parametrize(
    ("log", "labelled", "signal"),
    [
        ("same", False, None),
        ("same", True, None),
        ("moved", False, "far"),
        ("wrong", False, None),
        ("wrong", True, "surprise"),
    ],
)
def test_what_has_changed_is_noticed(folder: Path, log: str, labelled: bool, signal: str | None) -> None:
    watching = Watching(adapt.own_data.Answer.load(folder / "model"), labelled=labelled)
    watching.look(folder / f"{log}.csv", labelled)
    assert (watching.monitor.alarm and watching.monitor.alarm.signal) == signal
    assert watching.monitor.seen == 200


def test_what_is_usual_may_be_said(folder: Path) -> None:
    answer = adapt.own_data.Answer.load(folder / "model")
    moved = Watching(answer, usual=folder / "moved.csv")
    moved.look(written(folder / "again.csv", rows(200, 5, shift=2.0)), labelled=False)
    assert moved.monitor.alarm is None
    moved.look(folder / "same.csv", labelled=False)
    assert moved.monitor.alarm is None  # nearer than usual is nothing strange


def test_values_are_watched_by_their_errors_and_by_what_is_usual(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def line(n: int, slope: float, start: float = 0.0) -> list[dict[str, Any]]:
        x = rng.random(n) + start
        return [
            {"x": round(float(a), 3), "z": float(b), "value": float(slope * a + 0.1 * c)}
            for a, b, c in zip(x, rng.random(n), rng.normal(size=n), strict=True)
        ]

    answer = adapt.fit_table(written(tmp_path / "train.csv", line(60, 1.0)), target="value")
    watching = Watching(answer, labelled=True)
    watching.look(written(tmp_path / "same.csv", line(100, 1.0)), labelled=True)
    assert watching.monitor.alarm is None
    watching.look(written(tmp_path / "other.csv", line(60, 2.0)), labelled=True)
    assert watching.monitor.alarm is not None and watching.monitor.alarm.signal == "surprise"
    clean = Watching(answer, usual=tmp_path / "same.csv")  # without labels: how far examples are
    clean.look(written(tmp_path / "elsewhere.csv", line(60, 1.0, start=2.0)), labelled=False)
    assert clean.monitor.alarm is not None and clean.monitor.alarm.signal == "far"


def test_a_model_that_was_moved_is_not_judged_by_the_features_that_moved_it(folder: Path) -> None:
    answer = adapt.fit_table(folder / "train.csv", method="backprop")
    assert {*Watching(answer).monitor.evidence} == {"unsure"}
    assert {*Watching(answer, labelled=True).monitor.evidence} == {"surprise", "unsure"}


def test_models_of_earlier_versions_say_what_to_do(folder: Path) -> None:
    answer = adapt.fit_table(folder / "train.csv", method="backprop")
    del answer.task.adapter.info["own_data"]["usual"]
    with pytest.raises(AdaptError, match="--usual DATA"):
        Watching(answer)


def test_the_command_line(folder: Path) -> None:
    done = run(["-m", "adapt", "watch", "model", "same.csv", "--labelled"], folder)
    assert done.returncode == 0 and "no alarm after 200 examples" in done.stdout, done.stderr
    done = run(["-m", "adapt", "watch", "model", "moved.csv", "--note", "note.md"], folder)
    assert done.returncode == 2 and "alarm: examples are farther" in done.stderr, done.stderr
    note = (folder / "note.md").read_text(encoding="utf-8")
    assert "# Alarm: model" in note and "Nothing was moved" in note
    done = run(["-m", "adapt", "watch", "model", "moved.csv", "--on-alarm", "rollback"], folder)
    assert done.returncode == 2 and "needs a registered model" in done.stderr
    done = run(["-m", "adapt", "watch", "model", "moved.csv", "--on-alarm", "cry"], folder)
    assert done.returncode == 2 and "use note or rollback" in done.stderr


def asked(address: str, path: str, value: Any = None) -> Any:
    data = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_serve_drift_alarm_rollback_note(empty_store: Path, tmp_path: Path) -> None:
    """What was learned first predicts again after what came later is asked other things."""
    import mlflow

    shutil.copytree(empty_store, tmp_path, dirs_exist_ok=True)
    for number in (1, 2):
        written(tmp_path / "train.csv", rows(60 * number, number))
        done = run(["-m", "adapt", "fit", "train.csv", "--out", f"m{number}", "--register", "mine"], tmp_path)
        assert done.returncode == 0, done.stderr
    forced = ["-m", "adapt", "promote", "mine", "2", "--force", "--reason", "newer", "tracking.root=."]
    assert (done := run(forced, tmp_path)).returncode == 0, done.stderr

    same, other = ([{k: r[k] for k in "abc"} for r in rows(100, 9, shift=s)] for s in (0.0, 4.0))
    typed = ["--watch", "--on-alarm", "rollback"]
    with served("models:/mine@champion", tmp_path, *typed) as address:
        for start in range(0, 100, 20):
            asked(address, "/predict", same[start : start + 20])
        before = asked(address, "/watch")
        assert before["model"] == "models:/mine/2" and before["examples"] == 100 and not before["alarm"]
        unsure = [{"a": 1.5, "b": 1.5, "c": 1.5}]  # as strange to the classes as can be
        for _ in range(100):
            assert len(asked(address, "/predict", unsure)["predictions"]) == 1
            if (after := asked(address, "/watch"))["model"] != "models:/mine/2":
                break
        assert after["model"] == "models:/mine/1" and after["examples"] == 0
        assert after["done"] == "The champion is version 1 again, no longer 2"
        assert asked(address, "/predict", other[:1])["predictions"][0]["label"] in CLASSES

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    version = client.get_model_version("mine", "2")
    assert client.get_model_version_by_alias("mine", "champion").version == 1
    assert "less sure" in version.tags["alarm_reason"] and version.tags["rolled_back_reason"]
    assert client.get_run(version.run_id).data.metrics["watch/unsure"] > before["alarm_at"]
    [note] = client.list_artifacts(version.run_id, "incidents")
    page = Path(client.download_artifacts(version.run_id, note.path, tmp_path / "x")).read_text("utf-8")
    assert "The champion is version 1 again, no longer 2" in page
    done = run(["-m", "adapt", "history", "mine", "tracking.root=."], tmp_path)
    assert "alarm" in done.stdout and "rolled back" in done.stdout, done.stderr


def test_classes_that_are_rare_are_no_change(tmp_path: Path) -> None:
    """More examples than the distance to classes is measured by, most of them of one class, which is wide:
    what is usual has classes as often as they come."""
    rng = np.random.default_rng(0)

    def data(n: int) -> list[dict[str, Any]]:
        rare = rng.random(n) < 0.05
        x = rng.normal(size=(n, 2)) * np.where(rare, 0.1, 1.0)[:, None] + 4.0 * rare[:, None]
        return [
            {"a": float(p), "b": float(q), "label": "xy"[int(r)]} for (p, q), r in zip(x, rare, strict=True)
        ]

    answer = adapt.fit_table(written(tmp_path / "train.csv", data(6000)), method="head")
    for number in range(5):
        watching = Watching(answer)
        watching.look(written(tmp_path / f"log{number}.csv", data(500)), labelled=False)
        assert watching.monitor.alarm is None, watching.monitor.alarm


def test_where_nothing_can_be_looked_at_that_is_said(tmp_path: Path, folder: Path) -> None:
    rows = [{"a": float(i), "value": float(2 * i + i % 3)} for i in range(40)]
    answer = adapt.fit_table(written(tmp_path / "values.csv", rows), target="value")
    with pytest.raises(AdaptError, match="without labels there is nothing"):
        Watching(answer)
    few = written(tmp_path / "few.csv", rows[:3])
    with pytest.raises(AdaptError, match="holds 3 examples: give 10 or more"):
        Watching(answer, usual=few)
    done = run(["-m", "adapt", "watch", "model", "moved.csv", "--note", "moved.csv"], folder)
    assert done.returncode == 2 and "--note moved.csv is what is read" in done.stderr
