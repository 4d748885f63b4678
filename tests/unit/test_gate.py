"""The regression gate: its verdicts against closed forms, and the tasks it is run on."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_rel
from torch import Tensor

from adapt.adapter import FewShotAdapter
from adapt.app.commands.gate_tasks import gate_tasks, task_overrides
from adapt.app.compose import compose_run
from adapt.backbones import load_backbone
from adapt.compare import ACCURACY, MSE
from adapt.compare.gate import CLASS, GROUP, TOGETHER, TRUST, Gate, Slice, judge, run_gate
from adapt.compare.gate_page import gate_markdown, gate_rows, gate_sentence
from adapt.errors import AdaptError
from adapt.inner import CrossEntropy
from tasks import ArraySource, Distribution, Mixture

ALL = (TOGETHER, "")


def scores(difference: float, n: int = 600, spread: float = 0.04, seed: int = 0) -> list[tuple[float, float]]:
    """Accuracies of two on the same tasks, whose mean difference is exactly ``difference``."""
    rng = np.random.default_rng(seed)
    old, noise = 0.8 + 0.1 * rng.standard_normal(n), rng.standard_normal(n)
    new = old + difference + spread * (noise - noise.mean()) / noise.std(ddof=1)
    return list(zip(old.tolist(), new.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize("difference", [0.05, 0.0, -0.004, -0.0095, -0.012, -0.02])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.1])
def test_verdict_follows_from_the_paired_interval(difference: float, spread: float) -> None:
    pairs = scores(difference, spread=spread)
    found = judge({ALL: pairs}, ACCURACY, tolerance=0.01).slices[0]
    assert found.difference.mean == pytest.approx(difference)
    new, old = (np.array(column) for column in zip(*[(b, a) for a, b in pairs], strict=True))
    if spread == 0.0:
        assert found.difference.ci95 == pytest.approx(0.0, abs=1e-12)
        low = high = difference
    else:
        low, high = ttest_rel(new, old).confidence_interval(0.95)
        assert found.difference.mean - found.difference.ci95 == pytest.approx(low)
    assert found.verdict == ("ok" if low >= -0.01 else "worse" if high < -0.01 else "unclear")


def test_an_equal_challenger_passes_and_one_that_is_worse_on_one_slice_is_refused_for_it() -> None:
    slices = {ALL: scores(0.0), ("shots", "1"): scores(0.0, seed=1), ("shots", "10"): scores(0.001, seed=2)}
    assert judge(slices, ACCURACY).passed
    gate = judge({**slices, ("domain", "maps"): scores(-0.04, seed=3)}, ACCURACY)
    assert [str(found) for found in gate.refusals] == ["domain maps"]
    assert gate_sentence(gate) == "refused: worse by more than 1.0 points on domain maps"
    assert [str(found) for found in gate.slices] == ["all tasks", "shots 1", "shots 10", "domain maps"]


def test_what_cannot_be_shown_refuses_but_for_classes() -> None:
    few = scores(0.0, n=40, spread=0.2)
    gate = judge({ALL: few}, ACCURACY)
    assert gate_sentence(gate) == "refused: not shown to be within 1.0 points on all tasks"
    assert judge({ALL: scores(0.0), (CLASS, "a"): few}, ACCURACY).passed


def test_a_class_is_refused_by_holm_over_all_classes() -> None:
    """Chances are made to lie on both sides of 0.05 / m and of 0.05 / (m − 1) …"""
    rng = np.random.default_rng(0)
    wanted = [0.0049, 0.0057, 0.0055, 0.5, 0.9, 0.02, 0.4, 0.3, 0.6, 0.7]  # m = 10
    pairs: dict[Any, Any] = {ALL: scores(0.0)}
    for number, chance in enumerate(wanted):
        noise = rng.standard_normal(50)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        shift = _quantile(chance, 49) / np.sqrt(50) - 0.01 / 0.03
        pairs[CLASS, f"c{number}"] = [(0.8, 0.8 + 0.03 * (shift + z)) for z in noise.tolist()]
        difference = [new - old for old, new in pairs[CLASS, f"c{number}"]]
        assert ttest_1samp(difference, -0.01, alternative="less").pvalue == pytest.approx(chance)
    gate = judge(pairs, ACCURACY)
    # sorted: 0.0049 ≤ 0.05/10, 0.0055 ≤ 0.05/9 = 0.00556, 0.0057 ≤ 0.05/8, 0.02 > 0.05/7
    assert {found.name for found in gate.refusals} == {"c0", "c1", "c2"}


def _quantile(chance: float, freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(chance, freedom))


def test_a_class_with_few_tasks_is_not_judged() -> None:
    gate = judge({ALL: scores(0.0), (CLASS, "rare"): scores(-0.5, n=29)}, ACCURACY)
    assert gate.passed and gate.slices[1].verdict == "few"
    assert not judge({ALL: scores(0.0), (CLASS, "rare"): scores(-0.5, n=30)}, ACCURACY).passed


def test_of_an_error_less_is_better_and_the_tolerance_is_a_share() -> None:
    rng = np.random.default_rng(0)
    old = (3 + rng.random(600)).tolist()
    for factor, passes in ((0.9, True), (1.0, True), (1.009, True), (1.02, False)):
        gate = judge({ALL: [(value, factor * value) for value in old]}, MSE, tolerance=0.01)
        assert gate.passed == passes, factor
        assert gate.slices[0].margin == pytest.approx(0.01 * np.mean(old))


def test_a_tolerance_of_nothing_is_refused() -> None:
    with pytest.raises(AdaptError, match=r"tolerance=0\.0: it must be positive"):
        judge({ALL: scores(0.0)}, ACCURACY, tolerance=0.0)


# ---------------------------------------------------------------------------------------------- the page


def test_page_and_table_name_every_slice_that_refuses() -> None:
    pairs: dict[Any, Any] = {ALL: scores(0.0), ("shots", "1"): scores(-0.05)}
    pairs |= {(CLASS, f"c{i}"): scores(-0.3 if i == 7 else 0.001 * i, n=40, seed=i) for i in range(12)}
    pairs[CLASS, "a|b"] = scores(0.0, n=3)
    gate = judge(pairs, ACCURACY)
    header, rows = gate_rows(gate)
    names = [row[0] for row in rows]
    assert header == ("slice", "tasks", "champion %", "challenger %", "difference, points", "verdict")
    assert names[:3] == ["all tasks", "shots 1", "class c7"] and names[3:] == [
        f"class c{i}" for i in range(5)
    ]
    assert dict(zip(names, [row[5] for row in rows], strict=True))["class c7"] == "worse"
    page = gate_markdown(gate, "digits", "3", "4", "glyphs, split test")
    assert page.startswith("# digits: version 4 against the champion, version 3\n")
    assert "**Refused: worse by more than 1.0 points on shots 1, class c7.**" in page
    assert "Of 13 classes, 1 have fewer than 30 tasks" in page


# ------------------------------------------------------------------------------------------- running it


@dataclass(frozen=True)
class Planted:
    """Predicts the truth, which it knows from the pixels, but errs where it is told to; ``scale``: how sure
    it is; ``keep``: of which rows of the support set it makes use."""

    errs: Any = None
    scale: float = 1.0
    keep: Any = None
    backbone: Any = None
    input_shape: tuple[int, ...] = (1, 2, 2)
    loss: Any = field(default_factory=CrossEntropy)
    state: Any = field(default_factory=lambda: SimpleNamespace(origin=torch.zeros(1)))

    def fit(self, x: Tensor, y: Tensor) -> Any:
        """Each class is known by its pixel; a task by its number of shots."""
        shots = int((y == 0).sum())
        if self.keep is not None:
            rows = self.keep(x, y)
            x, y = x[rows], y[rows]
        means = torch.stack([x[y == label].mean(0) for label in range(int(y.max()) + 1)])

        def logits(queries: Tensor) -> Tensor:
            distances = (queries[:, None] - means).square().flatten(2).sum(-1)
            wrong = torch.tensor([bool(self.errs and self.errs(shots, float(q.mean()))) for q in queries])
            return self.scale * torch.where(wrong[:, None], distances, -distances)

        return SimpleNamespace(logits=logits)


def gate_of(errs: Any, each: int = 100, **more: Any) -> Gate:
    tasks = {str(shots): Distribution(pixels(each=each), 3, shots, 4, seed=shots) for shots in (1, 3)}
    return run_gate(Planted(), Planted(errs), tasks, count=60, **more)  # type: ignore[arg-type]


def pixels(classes: int = 5, each: int = 100) -> ArraySource:
    """Class i is ``each`` images full of i."""
    from tasks import Card

    card = Card("pixels", "flat images", "here", "CC0", "none", {"examples": each * classes}, (), "None.")
    values = np.repeat(np.arange(classes, dtype=np.float32), each)
    members = {f"c{i}": np.arange(each * i, each * (i + 1)) for i in range(classes)}
    return ArraySource(
        card, np.broadcast_to(values[:, None, None, None], (each * classes, 1, 2, 2)), {"train": members}
    )


def test_the_same_adapter_passes() -> None:
    gate = gate_of(None)
    assert gate.passed and gate.tasks == 120
    assert {str(f) for f in gate.slices} >= {"all tasks", "shots 1", "shots 3", "class c0"}
    assert all(found.difference.mean == 0 for found in gate.slices)


def test_a_challenger_that_is_planted_worse_at_one_shot_is_refused_for_one_shot() -> None:
    gate = gate_of(lambda shots, value: shots == 1, tolerance=0.01)
    by_name = {str(found): found for found in gate.slices}
    assert by_name["shots 1"].verdict == "worse" and by_name["shots 3"].verdict == "ok"
    assert (by_name["shots 1"].champion, by_name["shots 1"].challenger) == (1.0, 0.0)
    assert by_name["all tasks"].difference.mean == pytest.approx(-0.5)


def test_a_challenger_that_is_planted_worse_on_a_class_is_refused_for_that_class() -> None:
    gate = gate_of(lambda shots, value: value == 2.0, tolerance=0.5)
    assert [str(found) for found in gate.refusals if found.kind != TRUST] == ["class c2"]


def test_a_challenger_is_not_shown_to_be_as_good_by_many_tasks_of_few_examples() -> None:
    """120 tasks of 40 images, on which it makes no mistake either."""
    gate = gate_of(None, each=8)
    assert not gate.passed and all(found.difference.ci95 is None for found in gate.refusals)
    assert "not shown to be within 1.0 points on all tasks" in gate_sentence(gate)
    assert all(found.verdict in ("ok", "few") for found in gate.slices if found.kind == CLASS)


def asked(champion: Planted, challenger: Planted, **more: Any) -> dict[str, Slice]:
    """What is asked of how far it may be believed, of tasks with five examples of each of three classes."""
    tasks = {"5": Distribution(pixels(), 3, 5, 4, outside=6, seed=1)}
    gate = run_gate(champion, challenger, tasks, count=60, **more)  # type: ignore[arg-type]
    return {found.name: found for found in gate.slices if found.kind == TRUST}


def refused(found: dict[str, Slice]) -> set[str]:
    return {name for name, it in found.items() if it.refuses}


def test_as_far_to_be_believed_passes() -> None:
    found = asked(Planted(), Planted())
    assert {*found} == {"−log p", "Brier", "worse queries", "others told apart", "wrong labels"}
    assert not refused(found)


def test_one_that_is_less_sure_of_the_same_labels_is_refused_for_its_probabilities() -> None:
    assert refused(asked(Planted(), Planted(scale=0.05))) >= {"−log p", "Brier"}
    gate = judge({ALL: scores(0.0), (TRUST, "−log p"): [(0.1, 0.2)] * 60}, ACCURACY)
    assert gate_sentence(gate) == "refused: shown to be worse than is tolerated in −log p"
    assert gate.slices[1].margin == pytest.approx(0.01 * 0.1)
    assert gate_rows(gate)[1][1][0] == "−log p"


def test_one_that_errs_on_what_is_a_little_off_is_refused_for_worse_queries() -> None:
    """Pixels are whole numbers, but for noise."""
    found = asked(Planted(), Planted(lambda shots, value: value != round(value)))
    assert refused(found) == {"worse queries"}
    assert found["worse queries"].difference.mean < -0.5


def test_one_that_is_led_by_wrong_labels_is_refused_for_them() -> None:
    """The challenger makes use of the first example of each class only."""

    def first(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([(y == label).nonzero()[0, 0] for label in range(int(y.max()) + 1)])

    found = asked(Planted(), Planted(keep=first))
    assert refused(found) == {"wrong labels"}
    assert found["wrong labels"].champion > found["wrong labels"].challenger + 0.01


def test_a_group_that_is_shown_to_be_worse_is_refused() -> None:
    pairs = {ALL: scores(0.0), (GROUP, "sex=female"): scores(-0.05), (GROUP, "sex=male"): scores(0.05)}
    gate = judge(pairs, ACCURACY)
    assert [str(found) for found in gate.refusals] == ["group sex=female"]
    assert gate_sentence(gate) == "refused: worse by more than 1.0 points on group sex=female"


def test_domains_of_a_mixture_are_slices() -> None:
    parts = {name: Distribution(pixels(), 2, 1, 2, seed=seed) for seed, name in enumerate(("old", "new"))}
    gate = run_gate(Planted(), Planted(), {"1": Mixture(parts, seed=3)}, count=40)  # type: ignore[arg-type]
    domains = [found for found in gate.slices if found.kind == "domain"]
    assert {found.name for found in domains} == {"old", "new"}
    assert sum(found.difference.n for found in domains) == gate.tasks == 40


def test_adapters_that_no_tasks_judge_both(adapter: FewShotAdapter) -> None:
    tasks = {"1": Distribution(pixels(), 2, 1, 2)}
    with pytest.raises(AdaptError, match=r"shape \(1, 16, 16\), the challenger of \(1, 2, 2\)"):
        run_gate(adapter, Planted(), tasks, count=9)  # type: ignore[arg-type]
    with pytest.raises(AdaptError, match="1 tasks: at least two"):
        run_gate(Planted(), Planted(), tasks, count=1)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- held tasks


def held(*overrides: str, shots: list[int] | None = None) -> tuple[dict[str, Any], str]:
    return gate_tasks(compose_run(overrides).config, load_backbone("conv4_glyphs"), shots)


def test_held_tasks_are_not_those_of_training() -> None:
    tasks, source = held("experiment=meta_glyphs", "task.source.max_classes=60", "task.ways=2")
    assert source == "glyphs, split test"
    assert {name: found.shots for name, found in tasks.items()} == {"1": 1, "5": 5, "10": 10}
    learned = {*tasks["1"].source.classes("train"), *tasks["1"].source.classes("validation")}
    assert all(not learned & {*found.episode(0).meta.classes} for found in tasks.values())
    assert len({found.seed for found in tasks.values()}) == 3


def test_a_number_of_shots_that_there_are_not_enough_examples_for() -> None:
    with pytest.raises(AdaptError, match=r"task\.shots=500 .*\(--shots chooses numbers of shots\)"):
        held("experiment=quickstart", shots=[500])


def test_parts_of_a_mixture_keep_the_splits_of_their_own() -> None:
    glyphs = "task.components.glyphs"
    mixed = ("task=mixture", f"{glyphs}.support_split=train", f"{glyphs}.source.max_classes=60")
    tasks, source = held(*mixed, f"{glyphs}.ways=2", shots=[1])
    assert source == "glyphs + digits, split test"
    parts = tasks["1"].components
    assert (parts["glyphs"].support_split, parts["digits"].support_split) == ("test", "support")


def test_splits_that_are_not_for_learning_stay() -> None:
    tasks, source = held("experiment=quickstart", shots=[2])
    assert source == "digits, split query"
    assert (tasks["2"].support_split, tasks["2"].query_split, tasks["2"].shots) == ("support", "query", 2)


def test_of_what_a_run_was_started_with_only_the_tasks_are_taken_over() -> None:
    typed = ["experiment=meta_glyphs", "+task.source.x=1", "allow=[evil]", "++allow=[evil]", "stage=meta"]
    typed += ["hydra.run.dir=x", "tracking.uri=http://evil", "head@support_head=prototype", "task.ways=3"]
    assert task_overrides("\n".join(typed)) == [typed[0], typed[1], typed[7], typed[8]]
