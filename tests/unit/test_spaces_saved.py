"""Spaces as JSON and back: bit-identical adapters and tasks, what is refused, what every config makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.adapter.storage import FORMAT
from adapt.heads import Ridge
from adapt.inner import GaussNewton
from adapt.spaces import Space, combine, film, ia3, lora, named, prompt
from adapt.spaces.saved import SPACES, describe, rebuild
from tests.helpers import SIDE, randomised, tensors_in, tiny_conv4

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "space").glob("*.yaml"))

BUILDERS: dict[str, Callable[[nn.Module], Space]] = SPACES | {
    "film": lambda network: film(network, skip=1),
    "ia3": lambda network: ia3(network, targets="*.0"),
    "lora": lambda network: lora(network, rank=2, alpha=3.0, targets="*.0", seed=4),
    "film+lora": lambda network: combine(film(network), lora(network, rank=1)),
    "nested": lambda network: combine(
        combine(named("mine", network, film(network).shapes), lora(network, rank=1)), prompt(network)
    ),
}


class Images(nn.Module):
    """A Conv4 that adds a prompt to its features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.prompt = tiny_conv4(), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encoder(x) + self.prompt)


def images() -> nn.Module:
    return randomised(Images())


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def adapter_in(space: Callable[[nn.Module], Space]) -> FewShotAdapter:
    network = images()
    made = space(network)
    state = initial_state(made.initial + 0.02, 0.1 * draw(made.size, 3, seed=1))
    solver = GaussNewton(damping=30.0)  # small steps, which lower the loss: otherwise none is taken
    return FewShotAdapter(network, made, state, solver, Ridge(), input_shape=(1, SIDE, SIDE))


SUPPORT = draw(9, 1, SIDE, SIDE, seed=3), ["a", "b", "c"] * 3


@pytest.mark.parametrize("space", BUILDERS.values(), ids=BUILDERS.keys())
def test_adapters_and_tasks_of_every_space_come_back_bit_identical(
    space: Callable[[nn.Module], Space], tmp_path: Path
) -> None:
    made = adapter_in(space)
    made.save_pretrained(tmp_path / "adapter")
    loaded = adapt.load(tmp_path / "adapter", backbone=images())
    assert (loaded.space.name, loaded.space.shapes) == (made.space.name, made.space.shapes)
    assert loaded.space.settings == made.space.settings
    assert torch.equal(loaded.space.initial, made.space.initial)
    task = made.fit(*SUPPORT)
    assert bool(task.z.any()) and torch.equal(loaded.fit(*SUPPORT).z, task.z)
    task.save_pretrained(tmp_path / "task")
    back = adapt.load(tmp_path / "task", backbone=images())
    assert np.array_equal(back.predict_proba(SUPPORT[0]), task.predict_proba(SUPPORT[0]))
    assert all(torch.equal(back.parameters[name], value) for name, value in task.parameters.items())
    back.save_pretrained(tmp_path / "again")
    again = adapt.load(tmp_path / "again", backbone=images())
    assert np.array_equal(again.predict_proba(SUPPORT[0]), task.predict_proba(SUPPORT[0]))


def stored(folder: Path) -> set[str]:
    """Names of the adapted tensors in the file of a task."""
    names = load_file(tensors_in(folder))
    return {name.removeprefix("parameters.") for name in names if name.startswith("parameters.")}


def test_a_task_keeps_the_factors_and_not_the_weights_they_make(tmp_path: Path) -> None:
    made = adapter_in(BUILDERS["lora"])
    made.fit(*SUPPORT).save_pretrained(tmp_path / "task")
    assert stored(tmp_path / "task") == set(made.space.shapes)


def test_weights_that_another_machine_made_are_kept_as_they_are(tmp_path: Path) -> None:
    """Where merging again would make other bits, the weights themselves are saved."""
    task = adapter_in(BUILDERS["lora"]).fit(*SUPPORT)
    for value in task.parameters.values():
        value.mul_(1 + 1e-6)
    task.save_pretrained(tmp_path / "task")
    assert stored(tmp_path / "task") == set(task.parameters)
    back = adapt.load(tmp_path / "task", backbone=images())
    assert np.array_equal(back.predict_proba(SUPPORT[0]), task.predict_proba(SUPPORT[0]))


def test_a_space_of_format_2_was_known_by_its_tensors(tmp_path: Path) -> None:
    made = adapter_in(film)
    made.save_pretrained(tmp_path / "it")
    path = tmp_path / "it" / "adapter_config.json"
    config = json.loads(path.read_text())
    assert config["format"] == FORMAT >= 3
    del config["space"]["settings"]
    config["backbone"].pop("settings", None)
    path.write_text(json.dumps(config | {"format": 2}))
    loaded = adapt.load(tmp_path / "it", backbone=images())
    assert loaded.space.shapes == made.space.shapes and loaded.space.settings is None
    assert torch.equal(loaded.fit(*SUPPORT).z, made.fit(*SUPPORT).z)


def test_spaces_of_ones_own() -> None:
    network = images()
    plain = Space("film", {"prompt": (4,)}, torch.zeros(4))
    assert rebuild(describe(plain), network).shapes == {"prompt": (4,)}
    mine = Space("mine", {"m": (1,)}, torch.ones(1), {}, lambda own: {"prompt": own["m"].expand(4)})
    with pytest.raises(AdaptError, match=r"space 'mine' cannot be saved: only bias, film, full"):
        describe(mine)


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"name": "vera"}, r"space 'vera' is not known .* known are bias, film"),
    "code": ({"name": "os.system", "settings": {"command": "true"}}, r"space 'os\.system' is not known"),
    "other settings": ({"settings": {"rang": 2}}, r"space 'lora' does not take these settings .*rang"),
    "other tensors": (
        {"settings": {"targets": "*.blocks.0.*"}},
        r"saved with other tensors than it has in Images \(encoder",
    ),
    "bad settings": ({"settings": {"rank": 0}}, r"space\.rank=0"),
    "settings a list": ({"settings": [2]}, r"does not take these settings"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_description_that_cannot_be_trusted_is_refused(changes: dict[str, Any], message: str) -> None:
    network = images()
    said = json.loads(json.dumps(describe(BUILDERS["lora"](network))))
    assert describe(rebuild(said, network)) == said
    with pytest.raises(AdaptError, match=message):
        rebuild(said | changes, network)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_its_space(config: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    pytest.importorskip("hydra")
    from adapt.app.build import build

    node = omegaconf.OmegaConf.load(config)
    space = build(node, "space")(images())
    assert space.name == config.stem.replace("_", "+")
    if "parts" not in node:
        assert space.settings == {key: value for key, value in node.items() if not key.startswith("_")}
