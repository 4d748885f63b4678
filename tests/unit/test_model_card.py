"""What the README beside a saved adapter says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import adapt
from adapt.adapter import FewShotAdapter
from adapt.adapter.card import model_card
from adapt.adapter.labelling import doubtful_labels
from adapt.heads import Linear
from adapt.inner import Auto, GaussNewton
from tasks import VehicleDynamics

DATA: dict[str, Any] = {
    "name": "signs",
    "description": "Photographs | of\nroad signs.",
    "origin": "A survey, https://example.org.",
    "licence": "CC BY-NC 4.0",
    "terms": "Name the authors.",
    "counts": {"examples": 5160, "held_out": 12},
    "known_issues": ["Frames of one track\nare near duplicates.", "Many are dark."],
    "personal_data": "Faces at the edge of some.",
    "domain": "vision",
    "commercial": False,
}


def card(loss: str = "cross_entropy", **info: Any) -> str:
    config = {
        "kind": "adapter",
        "backbone": {"name": "conv4", "fingerprint": "f" * 64},
        "space": {"name": "film"},
        "solver": {"name": "gauss_newton"},
        "head": {"name": "logistic"},
        "loss": {"name": loss},
        "info": info,
    }
    return model_card(config, {"origin": torch.zeros(12), "basis": torch.zeros(12, 3)})


def section(page: str, heading: str) -> list[str]:
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()


def test_values_are_predicted_with_how_sure_they_are_and_classes_with_probabilities() -> None:
    assert "task.predict_proba(x_new)" in card() and "return_std" not in card()
    values = card("squared_error")
    assert "task.predict(x_new, return_std=True)" in values and "predict_proba" not in values


def test_training_data_come_before_how_it_was_trained_with_all_that_one_must_know() -> None:
    page = card(
        title="signs",
        training={"seed": 3, "accuracy": 0.93217, "settings": {"basis_tasks": 4}},
        data_card=DATA,
    )
    lines = section(page, "Training data")
    assert page.index("## Training data") < page.index("## Training\n")
    assert "Data card" not in page
    for row in (
        "| name | signs |",
        "| description | Photographs \\| of road signs. |",
        "| origin | A survey, https://example.org. |",
        "| licence | CC BY-NC 4.0 |",
        "| terms | Name the authors. |",
        "| commercial use | **not allowed** |",
        "| personal data | Faces at the edge of some. |",
        "| domain | vision |",
        "| counts | examples 5160, held out 12 |",
        "- Frames of one track are near duplicates.",
        "- Many are dark.",
        "> The licence of the training data (CC BY-NC 4.0) does not allow commercial use.",
    ):
        assert row in lines
    assert section(page, "Training")[-4:] == [
        "|---|---|",
        "| seed | 3 |",
        "| accuracy | 0.9322 |",
        "| settings | basis tasks 4 |",
    ]


@pytest.mark.parametrize(("commercial", "words"), [(True, "allowed"), (None, "the licence does not say")])
def test_nothing_is_forbidden_that_the_licence_does_not_forbid(commercial: bool | None, words: str) -> None:
    page = card(data_card={**DATA, "commercial": commercial, "known_issues": []})
    assert f"| commercial use | {words} |" in page.splitlines()
    assert "does not allow" not in page
    assert section(page, "Training data")[-1] == "- None named."


def test_front_matter_is_yaml_and_sections_without_data_are_as_they_were() -> None:
    page = card(licence="mit", remarks="Made by hand.")
    assert yaml.safe_load(page.split("---\n")[1])["license"] == "mit"
    assert section(page, "Remarks") == ["", "Made by hand."]
    assert "Training data" not in page


def test_a_source_s_own_card_goes_to_disk_and_back(adapter: FewShotAdapter, tmp_path: Path) -> None:
    sheet = VehicleDynamics().card.to_dict()
    adapter.replace(info={"data_card": sheet}).save_pretrained(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in (
        sheet["origin"],
        sheet["licence"],
        sheet["terms"],
        sheet["personal_data"],
        *sheet["known_issues"],
    ):
        assert text in page
    assert adapt.load(tmp_path, adapter.backbone).info["data_card"] == sheet


def test_keys_need_not_be_texts(adapter: FewShotAdapter, tmp_path: Path) -> None:
    adapter.replace(info={1: "one", "shots": {5: 0.9, "by": {10: 0.95}}}).save_pretrained(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "## 1" in page and "| 5 | 0.9 |" in page and "| by | 10 0.95 |" in page
    assert adapt.load(tmp_path, adapter.backbone).info["shots"] == {"5": 0.9, "by": {"10": 0.95}}


def planted(
    wrong: Sequence[int] = (), names: Sequence[str] = ("a", "b"), n: int = 24
) -> tuple[Tensor, list[str]]:
    """Points of two classes far apart, the labels at ``wrong`` exchanged."""
    labels = torch.arange(n) % 2
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) + 6 * (labels[:, None] - 0.5)
    return x, [names[int(label) ^ (i in wrong)] for i, label in enumerate(labels)]


def of_points(**parts: Any) -> FewShotAdapter:
    torch.manual_seed(0)
    return FewShotAdapter.of(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6)), **parts)


def saved(task: adapt.FittedTask, folder: Path) -> str:
    task.save_pretrained(folder)
    return (folder / "README.md").read_text(encoding="utf-8")


WRONG = "Labels that look wrong"


def test_labels_that_look_wrong_are_named_where_examples_are_kept(tmp_path: Path) -> None:
    adapter = of_points()
    x, y = planted(wrong=(3, 14))
    task = adapter.fit(x, y, keep=True)
    page = saved(task, tmp_path / "kept")
    rows = [line for line in section(page, WRONG) if line.startswith("| ")][1:]
    assert sorted(rows) == ["| 14 | is b, looks like a |", "| 3 | is a, looks like b |"]
    assert {3, 14} == {*np.argsort(-task.influence())[:2].tolist()}
    left_out = [
        adapter.fit(torch.cat([x[:i], x[i + 1 :]]), y[:i] + y[i + 1 :]).predict_proba(x[i : i + 1])
        for i in range(24)
    ]
    truth = np.array([label == "b" for label in y], np.int64)
    assert {*doubtful_labels(np.concatenate(left_out), truth, 10)} == {3, 14}
    again = adapt.load(tmp_path / "kept", adapter.backbone)
    assert saved(again, tmp_path / "again") == page

    more = task.partial_fit(x[:1], ["b"]).partial_fit(
        x[1:2], ["a new one"]
    )  # nothing is said of a single one
    page = saved(more, tmp_path / "more")
    assert "| 24 | is b, looks like a |" in section(page, WRONG) and "| 25 |" not in page


@pytest.mark.parametrize("solver", [Auto(), GaussNewton(), Auto(backprop_steps=1)])
def test_of_labels_that_look_right_none_is_named(solver: Any, tmp_path: Path) -> None:
    page = saved(of_points(solver=solver).fit(*planted(), keep=True), tmp_path)
    assert section(page, WRONG)[1:] == ["None of the examples that the task keeps."]


def test_of_the_only_example_of_a_class_nothing_is_said(tmp_path: Path) -> None:
    """Nor is anything known of z there: the head alone looks back."""
    page = saved(of_points().fit(planted()[0], [*["a"] * 23, "b"], keep=True), tmp_path)
    assert section(page, WRONG) and "| 23 |" not in page


def test_where_nothing_is_kept_or_labelled_there_is_no_such_section(tmp_path: Path) -> None:
    x, y = planted(wrong=(3,))
    assert WRONG not in saved(of_points().fit(x, y), tmp_path / "plain")
    values = adapt.load("mlp_sinusoid").fit(x[:, :1], x[:, :1].sin(), keep=True)
    assert values.memory is not None and WRONG not in saved(values, tmp_path / "values")


def test_ten_are_named_at_most_and_names_do_no_harm(tmp_path: Path) -> None:
    wrong = range(0, 100, 4)
    task = of_points().fit(*planted(wrong, ("<b>|x", "y"), 200), keep=True)
    rows = [line for line in section(saved(task, tmp_path), WRONG) if line.startswith("| ")][1:]
    assert len(rows) == 10 and sum(int(line.split("|")[1]) in wrong for line in rows) >= 9
    assert sum(line.endswith("| is y, looks like &lt;b>\\|x |") for line in rows) >= 9


def test_a_head_is_not_trained_anew_hundreds_of_times_to_be_saved(tmp_path: Path) -> None:
    adapter, (x, y) = of_points(head=Linear(steps=5)), planted(n=130)
    few, many = (adapter.fit(x[:n], y[:n], keep=True) for n in (128, 130))
    assert WRONG in saved(few, tmp_path / "few") and WRONG not in saved(many, tmp_path / "many")
    assert many.influence().shape == (130,)  # who asks is told
