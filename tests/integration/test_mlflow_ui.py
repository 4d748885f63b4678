"""The MLflow UI on a store that real runs have written, seen by a headless browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")
pytest.importorskip("playwright", reason="driving a browser needs playwright: pip install playwright")

import mlflow
from PIL import Image

from adapt.tracking.view import view_address
from bench import screenshots
from tests.command_line import TINY, call

METHODS = ("prototype", "ridge", "logistic", "forward", "backprop")
SMALL = [override for override in TINY if not override.startswith(("tracking", "method", "hydra", "figures"))]
FIGURE = "accuracy_against_seconds.png"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Store:
    """The address of a UI, its experiment, and by shots: the comparison, and its methods by name."""

    address: str
    folder: Path
    experiment: str
    comparisons: dict[str, Any]
    methods: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two comparisons, of one shot and of five."""
    if screenshots.chromium() is None:
        pytest.skip("no Chromium found")
    folder = tmp_path_factory.mktemp("ui")
    for shots in ("1", "5"):
        runs = ["experiment=quickstart", *SMALL, "task.ways=5", "method=[head,forward,backprop]"]
        drawn = f"figures={shots == '5'}"  # those that are looked at
        assert call([*runs, f"task.shots={shots}", drawn, f"hydra.run.dir={shots}"], folder) == 0
    with screenshots.served(folder) as address:
        experiment, parents = screenshots.comparisons(address)
        client = mlflow.MlflowClient(address)
        runs = client.search_runs([experiment])
        yield Store(
            address,
            folder,
            experiment,
            {run.data.params["task.shots"]: run for run in runs if run.info.run_id in parents},
            {
                shots: {
                    run.data.tags["method"]: run
                    for run in runs
                    if "method" in run.data.tags and run.data.params["task.shots"] == shots
                }
                for shots in ("1", "5")
            },
        )


def metric(run: Any, name: str) -> Any:
    return pytest.approx(run.data.metrics[name], rel=1e-3)


def test_table_shows_methods_with_accuracy_and_speed_up(store: Store) -> None:
    columns = ("eval/accuracy", "time/adapt_seconds", "compare/speedup_vs_backprop")
    parents = [run.info.run_id for run in store.comparisons.values()]
    with screenshots.opened(1600, 800) as page:
        screenshots.show_runs(page, store.address, store.experiment)
        screenshots.choose_columns(page, columns)
        screenshots.unfold(page, *parents)
        for shots, parent in store.comparisons.items():
            said = screenshots.cell(page, parent.info.run_id, "compare/speedup_vs_backprop")
            assert float(said) == metric(parent, "compare/speedup_vs_backprop")
            assert {*store.methods[shots]} == {*METHODS}
            for name, run in store.methods[shots].items():
                assert screenshots.cell(page, run.info.run_id, "Run Name").strip().endswith(name)
                for column in columns[:2]:
                    said = screenshots.cell(page, run.info.run_id, column)
                    assert float(said) == metric(run, column), (name, column)


def test_the_documented_address_opens_a_table_with_accuracy_and_speed_up(store: Store) -> None:
    parent = store.comparisons["5"]
    with screenshots.opened(1600, 800) as page:
        page.goto(view_address(store.address, store.experiment))
        said = screenshots.cell(page, parent.info.run_id, "compare/speedup_vs_backprop")
        assert float(said) == metric(parent, "compare/speedup_vs_backprop")
        screenshots.unfold(page, parent.info.run_id)
        for run in store.methods["5"].values():
            said = screenshots.cell(page, run.info.run_id, "eval/accuracy`")
            assert float(said) == metric(run, "eval/accuracy")


def test_comparing_two_runs_shows_their_metrics(store: Store) -> None:
    runs = [store.methods["5"][name] for name in ("forward", "backprop")]
    with screenshots.opened(1600, 1000) as page:
        screenshots.show_runs(page, store.address, store.experiment)
        screenshots.unfold(page, store.comparisons["5"].info.run_id)
        screenshots.compare(page, [run.info.run_id for run in runs])
        axes, points = screenshots.scatter(page, "time/adapt_seconds", "eval/accuracy")
        assert axes == ["time/adapt_seconds", "eval/accuracy"]
        assert points == {
            run.info.run_name: (metric(run, "time/adapt_seconds"), metric(run, "eval/accuracy"))
            for run in runs
        }


def test_charts_have_a_bar_for_every_method(store: Store) -> None:
    with screenshots.opened(1250, 900) as page:
        screenshots.show_runs(page, store.address, store.experiment, "CHART")
        screenshots.unfold(page, store.comparisons["1"].info.run_id)
        said = sorted(screenshots.bars(page, ["eval/accuracy"], len(METHODS)))
    scores = [run.data.metrics["eval/accuracy"] for run in store.methods["1"].values()]
    assert said == sorted(f"{score:.2f}" for score in scores)


def test_a_figure_is_displayed(store: Store) -> None:
    run = store.comparisons["5"].info.run_id
    with screenshots.opened(1100, 700) as page:
        screenshots.show_artifact(page, store.address, store.experiment, run, "figures", FIGURE)
        shown = page.locator(f"img[alt='figures/{FIGURE}']")
        page.wait_for_function("e => e.complete && e.naturalWidth > 0", arg=shown.element_handle())
        size = shown.evaluate("e => [e.naturalWidth, e.naturalHeight]")
    with Image.open(store.folder / "5" / FIGURE) as written:
        assert tuple(size) == written.size
