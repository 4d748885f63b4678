"""An interrupted comparison goes on where it was, and nothing else is taken for it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt.adapter import Context, Forward, Method, Predictor, Role, Support
from adapt.adapter.method import Adapt, Watch
from adapt.baselines import Backprop, Finetune, HeadOnly, Retrain
from adapt.compare import Comparison, Electricity, MethodResult, compare, runner
from adapt.compare.markdown import comparison_markdown
from adapt.compare.meters import Meter
from adapt.errors import AdaptError
from adapt.heads import Logistic
from adapt.inner import Descent
from tasks import ArraySource, Distribution, Tasks
from tests.helpers import make_adapter, make_source, tiny_conv4

TASK = {"source": "patterns", "ways": 2, "shots": 2, "queries": 4, "tasks": 4}
METHODS: dict[str, Method] = {
    "head": HeadOnly(Logistic()),
    "forward": Forward(),
    "backprop": Backprop(solver=Descent(steps=2)),
    "finetune": Finetune(steps=2, max_tasks=3),
    "retrain": Retrain(epochs=1, batch=6, watch_every=2, max_tasks=2),
}


class Stop(KeyboardInterrupt):
    """What a signal raises."""


def distribution(seed: int = 0, source: ArraySource | None = None) -> Distribution:
    return Distribution(source or make_source(), ways=2, shots=2, queries=4, seed=seed)


def context(seed: int = 0, backbone: nn.Module | None = None, k: int = 3) -> Context:
    backbone = backbone or tiny_conv4()
    source = make_source()
    members = source.classes("train")

    def pool(classes: tuple[str, ...], reserved: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        labels = torch.cat([torch.full((len(members[name]),), i) for i, name in enumerate(classes)])
        return source.load(np.concatenate([members[name] for name in classes])), labels

    return Context(backbone, make_adapter(backbone, k), pool, seed)


def run(
    path: Path | None,
    methods: Mapping[str, Method] = METHODS,
    stop_after: int | None = None,
    tasks: int = 4,
    **more: Any,
) -> Comparison:
    def progress(indices: Iterable[int]) -> Iterator[int]:
        for index in indices:
            if index == stop_after:
                raise Stop
            yield index

    drawn: Tasks = more.pop("distribution", distribution())
    settings: dict[str, Any] = {"experiment": "toy", "task": {**TASK, "tasks": tasks}, **more}
    return compare(
        methods,
        drawn,
        settings.pop("context", context()),
        tasks=tasks,
        device=torch.device("cpu"),
        checkpoint=path,
        progress=progress,
        **settings,
    )


def scores(comparison: Comparison) -> dict[str, Any]:
    """Everything that does not depend on how fast the machine is."""
    return {
        name: (method.score, [curve.score for curve in method.curves], method.forward_equivalents)
        for name, method in comparison.methods.items()
    }


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return run(None)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a comparison that was stopped after three of four tasks."""
    path = tmp_path_factory.mktemp("run") / "folder that is made" / "comparison.jsonl"
    with pytest.raises(Stop):
        run(path, stop_after=3)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, interrupted: bytes) -> Path:
    file = tmp_path / "comparison.jsonl"
    file.write_bytes(interrupted)
    return file


# ---------------------------------------------------------------------------------------------------- goes on


def test_the_rest_is_run_and_the_scores_are_those_of_an_uninterrupted_comparison(
    path: Path, whole: Comparison
) -> None:
    begun: list[int] = []

    class Recorded(Distribution):
        def episode(self, index: int) -> Any:
            begun.append(index)
            return super().episode(index)

    first = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("task") for line in first] == [None, 0, 1, 2]
    source = make_source()
    found = run(path, distribution=Recorded(source, ways=2, shots=2, queries=4, seed=0))
    assert begun == [0, 3]  # 0 to see what the tasks are, and to warm up
    assert scores(found) == scores(whole)
    assert [method.n for method in found.methods.values()] == [4, 4, 4, 3, 2]
    assert found.methods["retrain"].curves and found.methods["retrain"].curves[0].seconds
    for line in first[1:]:
        for name, result in line["results"].items():
            assert found.methods[name].seconds[line["task"]] == result["seconds"]
    assert found.methods["head"].peak_mb == first[0]["probes"]["head"]["peak_mb"]
    assert found.environment["resumed"] == "3 of 4 tasks are of an earlier process"
    assert "resumed" not in whole.environment


def test_without_memory_it_is_unknown_and_goes_on_so(tmp_path: Path) -> None:
    file = tmp_path / "comparison.jsonl"
    with pytest.raises(Stop):
        run(file, stop_after=3, memory=False)
    found = run(file, memory=False)
    for method in found.methods.values():
        assert method.peak_mb is None and method.process_mb is None and method.forward_equivalents > 0
        assert not [name for name in found.method_metrics(method) if "memory" in name]
    assert Comparison.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert comparison_markdown(found)


def test_a_finished_comparison_is_read_without_adapting(path: Path) -> None:
    done = run(path)
    asleep = copy.deepcopy(METHODS)  # equal, but others
    for method in asleep.values():
        object.__setattr__(method, "prepare", None)  # raises when called
    again = run(path, asleep)
    assert scores(again) == scores(done)
    assert again.methods == done.methods
    assert again.environment["resumed"].startswith("4 of 4")


def test_fewer_and_more_tasks_than_there_were(path: Path, whole: Comparison) -> None:
    few = run(path, tasks=2)
    assert few.methods["head"].score == whole.methods["head"].score[:2]
    assert len(path.read_text().splitlines()) == 4  # nothing is forgotten
    more = run(path, tasks=5)
    assert more.methods["head"].score[:4] == whole.methods["head"].score
    assert more.methods["head"].n == 5


@pytest.mark.parametrize("cut", [1, 30, "all of it"])
def test_a_line_that_was_cut_off_is_done_again(
    cut: int | str, path: Path, interrupted: bytes, whole: Comparison
) -> None:
    last = interrupted.splitlines(keepends=True)[-1]
    path.write_bytes(interrupted[: -len(last) if cut == "all of it" else -int(cut)])
    assert scores(run(path)) == scores(whole)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("task") for line in lines] == [None, 0, 1, 2, 3]


def test_a_first_line_that_was_cut_off_is_written_again(path: Path, interrupted: bytes) -> None:
    path.write_bytes(interrupted[:50])
    head = {"head": METHODS["head"]}
    found = run(path, head, tasks=2)
    assert "resumed" not in found.environment
    assert len(path.read_text().splitlines()) == 3


# ------------------------------------------------------------------------------------------------- is refused


def other_weights() -> Context:
    return context(backbone=tiny_conv4(seed=1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"context": context(seed=1)}, r"differs in seed \(0 there, 1 here\)"),
        ({"task": {**TASK, "corruption": "noise"}}, "differs in task:"),
        ({"experiment": "other"}, r"experiment \(toy there, other here\)"),
        ({"distribution": distribution(seed=5)}, "differs in data:"),
        ({"context": context(k=2)}, "differs in adapter:"),
        ({"context": other_weights()}, "differs in backbone, adapter:"),
        (
            {"methods": {**METHODS, "backprop": Backprop(solver=Descent(steps=3))}},
            "differs in method backprop:",
        ),
        ({"methods": {"head": METHODS["head"], "more": METHODS["forward"]}}, "method retrain, method more"),
    ],
    ids=["seed", "task", "experiment", "data", "adapter", "backbone", "setting", "methods"],
)
def test_another_comparison_is_refused(change: dict[str, Any], said: str, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(AdaptError, match=said) as refused:
        run(path, **change)
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [0, 2])
@pytest.mark.parametrize("content", [b"{oops", b"[]", b'{"task": 7}'])
def test_damage_is_named(line: int, content: bytes, path: Path) -> None:
    lines = path.read_bytes().splitlines()
    lines[line] = content
    path.write_bytes(b"\n".join([*lines, b""]))
    with pytest.raises(AdaptError, match=rf"{path.name} is (damaged in line {line + 1}|not a checkpoint)"):
        run(path)


@dataclass(frozen=True)
class Vandal:
    """Says that it keeps the pretrained weights, and does not."""

    role: Role = "head"
    max_tasks: int | None = None
    keeps_backbone: bool = True

    def prepare(self, context: Context) -> Adapt:
        def adapt(support: Support, watch: Watch) -> Predictor:
            next(context.backbone.parameters()).add_(1)
            return lambda x: torch.zeros(len(x), support.ways)

        return adapt


def test_void_results_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "comparison.jsonl"
    with pytest.raises(AdaptError, match="results are void"):
        run(file, {"vandal": Vandal()}, tasks=1)
    assert not file.exists()


def test_a_method_without_tasks_is_named() -> None:
    with pytest.raises(AdaptError, match=r"head: max_tasks=0"):
        run(None, {"head": HeadOnly(Logistic(), max_tasks=0)}, tasks=1)


# ----------------------------------------------------------------------------------------------------- energy


class Processor:
    """Ten watts, whatever the clock says."""

    measured, shortest = True, 0.0

    def __init__(self) -> None:
        self.count = 0

    def joules(self) -> float:
        self.count += 1
        return float(self.count)

    def __str__(self) -> str:
        return "a counter"


@pytest.fixture
def ten_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_meter", lambda device: Meter((Processor(),)))
    monkeypatch.setattr(runner, "mean_power", lambda work, meter, device: [work(), 10.0][1])


def of(found: Comparison, name: str = "forward") -> MethodResult:
    return found.methods[name]


def test_energy_is_power_times_mean_seconds(ten_watts: None, tmp_path: Path) -> None:
    prices = Electricity(grid_g_per_kwh=400, pue=1.5, usd_per_kwh=0.2, usd_per_hour=0.0)
    file = tmp_path / "comparison.jsonl"
    two = {"head": METHODS["head"], "forward": METHODS["forward"]}
    with pytest.raises(Stop):
        run(file, two, electricity=prices, stop_after=1, tasks=3)
    found = run(file, two, electricity=prices, tasks=3)  # the power is remembered
    energy = 10.0 * np.mean(of(found).seconds) / 3600
    assert of(found).energy_wh == pytest.approx(energy)
    assert of(found).watts == pytest.approx(10.0)
    assert of(found).co2_g == pytest.approx(energy / 1000 * 1.5 * 400)
    assert of(found).usd == pytest.approx(energy / 1000 * 1.5 * 0.2)
    assert found.energy_source == "measured"
    assert found.environment["energy"]["meter"] == "a counter"
    assert found.environment["energy"]["pue"] == 1.5
    assert (of(found).process_mb or 0) >= 0


@pytest.mark.parametrize("electricity", [None, Electricity(enabled=False)], ids=["none", "not enabled"])
def test_energy_is_not_measured_unless_asked_for(
    electricity: Electricity | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "find_meter", None)  # raises when called
    found = run(None, {"forward": METHODS["forward"]}, electricity=electricity, tasks=1)
    assert (of(found).energy_wh, of(found).co2_g, of(found).usd) == (None, None, None)
    assert found.energy_source is None and "energy" not in found.environment


def test_a_machine_without_meter_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_meter", lambda device: None)
    found = run(None, {"forward": METHODS["forward"]}, electricity=Electricity(), tasks=1)
    assert of(found).energy_wh is None and found.energy_source is None
