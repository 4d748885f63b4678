"""A folder of ``adapt fit`` that came from somebody else: refused in one line, or used as what it is."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save

import adapt
from adapt.adapter.storage import SETTINGS
from adapt.adapter.verified import decisive_sha256
from adapt.app.serving.service import Service
from adapt.errors import AdaptError
from adapt.own_data import Answer
from adapt.own_data.support import Support
from tests.own_data.test_commands import penguins

CONFIG = "adapter_config.json"
ROW = {"island": "dream", "bill_mm": "40", "flipper_mm": "200", "sex": "male"}
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        2**63,
        1e308,
        -1e308,
        1e-320,
        "",
        "x",
        "\x1b]0;x\x07",
        "\0",
        "../../etc/passwd",
    ),
    *([], {}, [[]], {"a": {}}, ["a"], "utf-16", "idna", "rot13", "undefined", "zip"),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of classes, one of values, and pictures."""
    root = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    adapt.fit_table(penguins(root / "p.csv", 60, 0), method="head").save(root / "classes")
    rows = [f"{2 * x + 1:.3f},{x:.3f},{'uv'[i % 2]}" for i, x in enumerate(rng.normal(size=40))]
    (root / "v.csv").write_text("\n".join(["y,a,c", *rows]), encoding="utf-8")
    adapt.fit_table(root / "v.csv", target="y", method="head").save(root / "values")
    for name in ("dots", "blank"):
        (root / "shapes" / name).mkdir(parents=True)
        for n in range(3):
            image = np.full((32, 32), 250 - n, np.uint8)
            image[rng.integers(32, size=40), rng.integers(32, size=40)] = 0 if name == "dots" else 240
            Image.fromarray(image).save(root / "shapes" / name / f"{n}.png")
    adapt.fit_folder(root / "shapes", backbone="conv4_glyphs", method="head").save(root / "pictures")
    return root


@pytest.fixture
def changed(models: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a model with another value somewhere in its config, hashes made to fit."""

    def change(model: str, *place: Any, value: Any) -> Path:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(models / model, folder)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config["info"]["own_data"].pop("reader_sha256")
        inside = config
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = value
        if SETTINGS in config:
            config[SETTINGS] = decisive_sha256(config)
        (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        return folder

    return change


READER = ("info", "own_data", "reader")


@pytest.mark.parametrize(
    ("model", "place", "value"),
    [
        ("classes", READER, {"kind": "texts", "text": "a", "label": "b", "encoding": "utf-8"}),
        ("classes", READER, {"kind": "pictures", "size": 32, "channels": 1}),
        ("pictures", READER, {"kind": "texts", "text": "a", "label": "b", "encoding": "utf-8"}),
        ("pictures", (*READER, "size"), 1024),
        ("pictures", (*READER, "channels"), 3),
        ("pictures", (*READER, "channels"), True),
        ("classes", (*READER, "regression"), True),
        ("values", (*READER, "regression"), False),
        ("classes", (*READER, "columns", "columns", 0, "categories"), ["dream"]),
        ("classes", (*READER, "columns", "columns", 1, "marked"), False),
        ("classes", ("info", "own_data", "kept_examples"), "../classes/examples.safetensors"),
        ("classes", ("info", "own_data", "kept_examples"), "/dev/zero"),
        ("classes", ("info", "own_data", "kept_examples"), 3),
        ("classes", ("info", "own_data", "reader_sha256"), "0" * 64),
    ],
)
def test_a_reader_is_that_of_its_model(
    changed: Callable[..., Path], model: str, place: tuple[Any, ...], value: Any
) -> None:
    with pytest.raises(AdaptError):
        Answer.load(changed(model, *place, value=value))


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


@pytest.mark.parametrize("model", ["classes", "values", "pictures"])
def test_whatever_a_reader_says(changed: Callable[..., Path], models: Path, model: str) -> None:
    own = json.loads((models / model / CONFIG).read_text(encoding="utf-8"))["info"]["own_data"]
    picture = (models / "shapes" / "dots" / "0.png").read_bytes()
    cases = [(place, value) for place in places(own) if place for value in ODD]
    used = 0
    for place, value in random.Random(0).sample(cases, 25):
        folder = changed(model, "info", "own_data", *place, value=copy.deepcopy(value))
        try:
            answer = Answer.load(folder)
            service = Service(answer, folder)
            json.dumps(service.about(), allow_nan=False)
            service.predict({"classes": ROW, "values": {"a": 1}, "pictures": picture}[model])
            answer.predict(models / {"classes": "p.csv", "values": "v.csv", "pictures": "shapes"}[model])
            used += 1
        except AdaptError as error:
            assert str(error)
    assert used, "what is only shown may be anything"


def support(models: Path) -> tuple[torch.Tensor, torch.Tensor]:
    path = next((models / "classes").glob("examples-*"))
    found = load_file(path)
    return found["features"], found["positions"]


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x[:, :0], y),
        lambda x, y: (x[None], y),
        lambda x, y: (x.long(), y),
        lambda x, y: (x.double() * 1e300, y),
        lambda x, y: (x, y + 1),
        lambda x, y: (x, y - 1),
        lambda x, y: (x, y.int()),
        lambda x, y: (x[:-1], y),
        lambda x, y: (x[:0], y[:0]),
    ],
)
def test_examples_that_are_none(
    models: Path, changed: Callable[..., Path], change: Callable[..., tuple[torch.Tensor, torch.Tensor]]
) -> None:
    features, positions = change(*support(models))
    name, content = Support(features, positions).packed()
    folder = changed("classes", "info", "own_data", "kept_examples", value=name)
    (folder / name).write_bytes(content)
    with pytest.raises(AdaptError, match="no examples of this model"):
        Answer.load(folder)


def test_examples_of_another_model_teach_nothing(models: Path, changed: Callable[..., Path]) -> None:
    features, positions = support(models)
    name, content = Support(features[:, :3].contiguous(), positions).packed()
    folder = changed("classes", "info", "own_data", "kept_examples", value=name)
    (folder / name).write_bytes(content)
    with pytest.raises(AdaptError, match="of another model"):
        Answer.load(folder).learn(ROW, "gentoo")
    path = next(folder.glob("examples-*"))
    (folder / name).write_bytes(path.read_bytes() + b" ")
    with pytest.raises(AdaptError, match="sha256 is another"):
        Answer.load(folder)


def test_no_more_is_learned_than_is_kept(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Answer.load(models / "classes")
    assert answer.support is not None
    with pytest.raises(AdaptError, match="one row at a time"):
        answer.learn([ROW, ROW], "gentoo")
    monkeypatch.setattr("adapt.own_data.support.LARGEST", answer.support.features.numel())
    with pytest.raises(AdaptError, match="fit your data again"):
        answer.learn(ROW, "gentoo")


def test_what_the_first_version_wrote_is_read(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "classes", folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for name in ("kept_examples", "reader_sha256"):
        del config["info"]["own_data"][name]
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    next(folder.glob("examples-*")).rename(folder / "examples.safetensors")
    answer = Answer.load(folder)
    assert answer.can_learn
    answer.learn(ROW, "gentoo").save(folder)
    assert Answer.load(folder).can_learn
    features, positions = support(models)
    (folder / "examples.safetensors").write_bytes(save({"features": features, "positions": positions}))
    assert len(Answer.load(folder).support.features) == len(features) + 1, "what is named counts"  # type: ignore[union-attr]
