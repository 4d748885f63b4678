"""What the README beside a saved adapter says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import adapt
from adapt.adapter import FewShotAdapter
from adapt.adapter.card import model_card
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


def card(**info: Any) -> str:
    config = {
        "kind": "adapter",
        "backbone": {"name": "conv4", "fingerprint": "f" * 64},
        "space": {"name": "film"},
        "solver": {"name": "gauss_newton"},
        "head": {"name": "logistic"},
        "info": info,
    }
    return model_card(config, {"origin": torch.zeros(12), "basis": torch.zeros(12, 3)})


def section(page: str, heading: str) -> list[str]:
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0].splitlines()


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
