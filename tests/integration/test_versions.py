"""`history`, `promote` and `rollback` on a real store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import adapt
from adapt.files import PRETRAINED, read_json
from adapt.tracking import prepare_store
from adapt.tracking.model import load_pyfunc, log_model
from adapt.tracking.registry import Registry
from adapt.tracking.store import silent
from tests.command_line import call

mlflow = pytest.importorskip("mlflow")
load_pyfunc()

SHIPPED = PRETRAINED / "conv4_glyphs_film"
#: Tasks on digits, as small as the gate takes them.
TASKS = ("experiment=quickstart", "figures=false", "memory=false", "task.ways=2", "task.queries=2")
FEW = ("--allow-few-tasks", "--tasks")


def broken(folder: Path) -> Path:
    """The shipped adapter with a start that destroys the features."""
    adapter = adapt.load(SHIPPED)
    origin = adapter.state.origin
    noise = 30 * torch.randn(origin.shape, generator=torch.Generator().manual_seed(0))
    adapter.replace(state=adapter.state._replace(origin=origin + noise)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def store(root: Path) -> tuple[Path, Any]:
    return root, mlflow.MlflowClient(tracking_uri=prepare_store(root))


@pytest.fixture
def registry(store: tuple[Path, Any], request: pytest.FixtureRequest) -> Iterator[Registry]:
    """A model of its own for each test: version 1 as shipped, 2 the same again, 3 broken."""
    root, client = store
    name = re.sub(r"\W", "_", request.node.name.removeprefix("test_"))
    experiment = client.create_experiment(name, (root / "mlruns" / name).as_uri())
    for folder in (SHIPPED, SHIPPED, broken(root / name / "broken")):
        run_id = client.create_run(experiment).info.run_id
        client.log_text(run_id, "".join(f"{line}\n" for line in TASKS), "overrides.txt")
        with silent():
            log_model(client, run_id, folder, name)
    yield Registry(client, name)


@pytest.fixture(scope="module")
def mistakes(store: tuple[Path, Any]) -> str:
    """The name of a model with three versions."""
    root, client = store
    experiment = client.create_experiment("mistakes", (root / "mlruns" / "mistakes").as_uri())
    for _ in range(3):
        with silent():
            log_model(client, client.create_run(experiment).info.run_id, SHIPPED, "mistakes")
    return "mistakes"


def adapted(store: tuple[Path, Any], *typed: str) -> int:
    return call(typed, store[0])


def champion(registry: Registry) -> str | None:
    found = registry.aliased("champion")
    return None if found is None else found.number


@pytest.mark.slow
def test_equal_is_promoted_and_worse_refused(
    store: tuple[Path, Any], registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    name = registry.name
    assert champion(registry) == "1"
    assert adapted(store, "promote", name, "2", "--shots", "1,2", *FEW, "4") == 0
    told = capsys.readouterr()
    assert f"{name}: champion is version 2, no longer 1" in told.out
    assert "fewer than 600 of a kind" in told.out
    assert champion(registry) == "2"

    assert adapted(store, "promote", name, "--shots", "1,2", *FEW, "30") == 2
    told = capsys.readouterr()
    assert f"error: version 3 of '{name}' is refused: worse by more than 1.0 points on all tasks" in told.err
    assert champion(registry) == "2"
    tags = registry.version("3").tags
    assert (tags["gate"], tags["gate_champion"], tags["gate_tasks"]) == ("refused", "2", "60")
    page = registry.text(registry.version("3"), "gate.md")
    assert page is not None and page.startswith(f"# {name}: version 3 against the champion, version 2\n")
    assert "| shots 1 | 30 |" in page and "digits, split query" in page

    assert adapted(store, "promote", name, "3", "--force", "--reason", "a trial") == 0
    assert champion(registry) == "3"
    capsys.readouterr()
    assert adapted(store, "history", name) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = [row for row in rows if row and row[0].isdigit()]
    assert [row[:2] for row in rows] == [["3", "challenger, champion"], ["2", ""], ["1", ""]]
    assert [row[4] for row in rows] == [
        "forced against version 2: a trial",
        "passed against version 1",
        "first",
    ]
    assert rows[1][3] == "0.9404"  # its validation accuracy


def test_two_promotions_and_two_rollbacks(
    store: tuple[Path, Any], registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    name = registry.name
    for number in ("2", "3"):
        assert adapted(store, "promote", name, number, "--force", "--reason", "test") == 0
    assert registry.champions() == ["1", "2", "3"]
    assert adapted(store, "rollback", name, "--reason", "it answers nonsense") == 0
    assert f"{name}: champion is version 2 again, no longer 3" in capsys.readouterr().out
    assert adapted(store, "rollback", name) == 0
    assert (champion(registry), registry.champions()) == ("1", ["1"])
    assert adapted(store, "rollback", name) == 2
    assert f"error: '{name}' has had no champion before 1" in capsys.readouterr().err
    assert registry.version("3").tags["rolled_back_reason"] == "it answers nonsense"
    assert adapted(store, "promote", name, "3", "--force", "--reason", "again") == 0
    assert "rolled_back" not in registry.version("3").tags


@pytest.mark.parametrize(("fails", "left"), [("alias", ["1"]), ("tag", ["1", "2"])])
def test_a_crash_in_the_middle_of_a_promotion_leaves_no_false_history(
    store: tuple[Path, Any], registry: Registry, monkeypatch: pytest.MonkeyPatch, fails: str, left: list[str]
) -> None:
    def crash(*_: object) -> None:
        raise OSError("the power went off")

    with monkeypatch.context() as patch:
        patch.setattr(registry.client, f"set_registered_model_{fails}", crash)
        with pytest.raises(OSError, match="power"):
            registry.crown("2")
    assert registry.champions() == left
    if fails == "tag":
        return
    registry.crown("2")
    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "set_registered_model_alias", crash)
        with pytest.raises(OSError, match="power"):
            registry.roll_back()
    assert (champion(registry), registry.champions()) == ("2", ["1", "2"])


def test_a_champion_made_in_the_ui_and_a_deleted_one(store: tuple[Path, Any], registry: Registry) -> None:
    client, name = registry.client, registry.name
    client.set_registered_model_alias(name, "champion", "3")
    assert registry.champions() == ["1", "3"]
    registry.crown("2")
    client.delete_model_version(name, "3")
    assert registry.champions() == ["1", "2"]
    assert registry.roll_back() == ("2", "1")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["promote", "{}", "1"], "version 1 of '{}' is the champion already"),
        (["promote", "{}", "7"], "'{}' has no version 7: there are 3, 2, 1, @challenger, @champion"),
        (["promote", "nothing"], "there is no registered model 'nothing': there are "),
        (["promote", "{}", "--tasks", "20"], "--tasks 20: fewer than 600 show little; add --allow-few-tasks"),
        (["promote", "{}", "--force"], "--force and --reason belong together"),
        (["promote", "{}", "--shots", "one"], "--shots one: write numbers separated by commas"),
        (["promote", "{}", "2", "3"], "3 is no override"),
        (["promote", "{}", "--toleranze", "1"], "there is no option --toleranze: did you mean --tolerance?"),
        (["history"], "which model? Name it as register=NAME did: python -m adapt history NAME"),
        (["history", "nothing"], "there is no registered model 'nothing'"),
        (["history", "{}", "tracking=none"], "versions are kept in MLflow"),
        (["rollback", "{}", "tracking.root=elsewhere"], "there is no elsewhere/mlflow.db"),
        (["rollback", "{}", "tracking.roots=x"], "did you mean root?"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    store: tuple[Path, Any], mistakes: str, capsys: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    assert adapted(store, *(word.format(mistakes) for word in typed)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message.format(mistakes) in lines[0]


def test_a_version_that_names_no_tasks_asks_for_them(
    store: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    root, client = store
    experiment = client.create_experiment("no tasks", (root / "mlruns" / "none").as_uri())
    for _ in range(2):
        with silent():
            log_model(client, client.create_run(experiment).info.run_id, SHIPPED, "no_tasks")
    assert adapted(store, "promote", "no_tasks") == 2
    assert "version 2 does not say what tasks it was trained for: give them" in capsys.readouterr().err
    assert adapted(store, "promote", "no_tasks", *TASKS, "--shots", "1", *FEW, "2") == 0


@pytest.mark.slow
def test_meta_training_registers_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = (
        "experiment=meta_glyphs", "task.source.max_classes=40", "task.ways=2", "task.shots=2",
        "task.queries=2",
        "meta.k=2", "meta.steps=1", "meta.basis_tasks=2", "meta.tasks_per_step=1", "meta.validation_tasks=1",
    )  # fmt: skip
    assert call([*tiny, "register=a/b", "hydra.run.dir=bad"], tmp_path) == 2
    assert call([*tiny, "register=glyphs", "tracking=none", "hydra.run.dir=bad"], tmp_path) == 2
    assert not (tmp_path / "bad" / "adapter").exists()
    assert call([*tiny, "register=glyphs", "hydra.run.dir=run"], tmp_path) == 0
    monkeypatch.chdir(tmp_path)
    loaded, saved = adapt.load("models:/glyphs@champion"), adapt.load("run/adapter")
    assert torch.equal(loaded.state.basis, saved.state.basis)
    registry = Registry(mlflow.MlflowClient(tracking_uri=prepare_store(tmp_path)), "glyphs")
    version = registry.version("@challenger")
    training = read_json(tmp_path / "run/adapter/adapter_config.json")["info"]["training"]
    assert version.tags["validation_accuracy"] == str(training["validation/accuracy"])
    assert version.tags["data_sha256"] == training["data_sha256"]
    assert registry.text(version, "overrides.txt") is not None
