"""What a file declares is bounded: sizes, ranks, steps and counts, before memory or time is spent on them."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adapt
from adapt import AdaptError, budget
from adapt.adapter import FewShotAdapter, initial_state
from adapt.backbones import ARCHITECTURES, fingerprint, load_backbone, untrained
from adapt.backbones.declared import load_declared
from adapt.heads import HEADS
from adapt.inner import SOLVERS
from adapt.meta import MetaTraining
from adapt.meta.pretrain import Pretraining
from adapt.spaces import lora
from adapt.spaces.peft import read_peft, write_peft
from tasks.readers.settings import checked, positive
from tests.helpers import make_adapter, save_tiny, tiny_conv4

HUGE = 10**12


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """A net: what is not refused fails here, and not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 << 30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter in the space of LoRA on a perceptron that its name describes."""
    path = tmp_path_factory.mktemp("saved") / "it"
    network, info = load_backbone("mlp:4-8-3")
    space = lora(network, rank=2)
    state = initial_state(space.initial, torch.randn(space.size, 2))
    FewShotAdapter(network, space, state, backbone_name=info.name).save_pretrained(path)
    return path


@pytest.fixture
def edited(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The adapter, with one value of its config replaced."""

    def edit(*keys: str, value: Any) -> Path:
        config = json.loads((folder / "adapter_config.json").read_text())
        node = config
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        return tmp_path

    return edit


# ------------------------------------------------------------------------------------------- backbones


@pytest.mark.parametrize(
    "name",
    [
        "mlp:100000-100000-100000",
        "mlp:1-1000000000-1",
        "mlp:40000-40000",
        f"mlp:1-{HUGE}",
        "mlp:1-" + "9" * 5000,
    ],
)
def test_a_backbone_that_a_file_names_is_of_a_size_that_can_be_had(
    name: str, edited: Callable[..., Path]
) -> None:
    with pytest.raises(AdaptError, match=r"at most|too large|write the layers' sizes") as caught:
        adapt.load(edited("backbone", "name", value=name))
    assert len(str(caught.value)) < 6000


def test_a_network_of_very_many_layers_is_refused(edited: Callable[..., Path]) -> None:
    with pytest.raises(AdaptError, match="list of 20,000 numbers"):
        adapt.load(edited("backbone", "name", value="mlp:" + "-".join(["2"] * 20_000)))


def test_what_is_typed_may_fill_the_machine_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "machine_memory", lambda: 4000)
    load_backbone("mlp:10-10-10")
    with pytest.raises(AdaptError, match=r"'mlp:100-100-1' has 10,000 numbers.*of memory: make it smaller"):
        load_backbone("mlp:100-100-1")
    with pytest.raises(AdaptError, match=r"backbone.architecture=vit has .* numbers"):
        untrained("vit")
    with pytest.raises(AdaptError, match=r"space 'lora' of rank 60 has 2,400 numbers"):
        lora(nn.Linear(20, 20), rank=60)


def test_parameters_are_counted_before_their_memory_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "TENSORS", 1000)
    touched = []

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(2**29))  # reserved, as far as the system is concerned
            touched.append(self.weight.fill_(0))

    with pytest.raises(AdaptError, match="536,870,912 numbers"), budget.declared(), budget.counted("it"):
        Layer()
    with pytest.raises(AdaptError, match=r"more memory than there is|TiB|GiB"), budget.counted("it"):
        nn.Linear(2**22, 2**22)
    with pytest.raises(AdaptError, match="more than 1,000 tensors"), budget.counted("it"):
        nn.ModuleList(nn.Linear(1, 1) for _ in range(600))
    assert not touched
    nn.Linear(2, 2)  # nothing is counted any more


@pytest.mark.parametrize(
    "arguments",
    [{"width": 50_000}, {"width": HUGE}, {"channels": 60_000, "width": 4}, {"width": 8}],
    ids=str,
)
def test_a_saved_network_has_the_numbers_of_its_file(arguments: dict[str, int], tmp_path: Path) -> None:
    save_tiny(tmp_path / "it")
    path = tmp_path / "it" / "backbone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"arguments": arguments}))
    with pytest.raises(AdaptError, match=r"do not fit conv4|too large"):
        load_backbone(tmp_path / "it")


@pytest.mark.parametrize("name", [*ARCHITECTURES])
@pytest.mark.parametrize("setting", ["channels", "width", "depth", "heads", "patch"])
def test_settings_of_networks_have_ceilings(name: str, setting: str) -> None:
    with pytest.raises((AdaptError, TypeError), match=f"{setting}"):
        ARCHITECTURES[name](**{setting: HUGE})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("/etc", {}),
        ("../somewhere", {}),
        (".", {}),
        ("hf:/etc", {}),
        ("hf:../x/y", {}),
        ("hf:here", {}),
        ("hf:owner/model", {"weights": "/etc/passwd"}),
        ("timm:local-dir:/etc", {}),
        ("timm:hf-hub:../../etc", {}),
        ("timm:mobilenetv2_050", {"weights": "here/it.safetensors"}),
        ("torchvision:../resnet18", {}),
        ("torchvision:resnet18", {"weights": 5}),
    ],
)
def test_a_file_names_no_folder_and_no_file_of_this_machine(
    name: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny("here")
    monkeypatch.setattr("adapt.backbones.declared.load_backbone", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(AdaptError, match=r"a folder or a file of this machine: .* pass the backbone"):
        load_declared("adapter_config.json", name, settings)


def test_a_backbone_of_ours_is_read_from_the_folder_that_a_file_names(tmp_path: Path) -> None:
    save_tiny(tmp_path / "here")
    found = load_declared("adapter_config.json", str(tmp_path / "here"), {})
    assert fingerprint(found) == fingerprint(tiny_conv4())


def test_weights_of_the_data_root_lie_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "it.safetensors")
    monkeypatch.setenv("ADAPT_DATA", str(tmp_path / "data"))
    for weights in ("data:../it.safetensors", f"data:{tmp_path}/it.safetensors"):
        with pytest.raises(AdaptError, match=r"is outside of .*data"):
            load_declared("it", "torchvision:shufflenet_v2_x0_5", {"weights": weights, "size": 32})


# ------------------------------------------------------------------------------------------- components

COUNTS = ("steps", "folds", "dense", "tangents", "samples")


def counted_settings(known: dict[str, type]) -> list[tuple[str, str]]:
    return [
        (name, field)
        for name, kind in known.items()
        for field in COUNTS
        if field in kind.__dataclass_fields__  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("role", ["head", "support_head", "solver"])
def test_steps_and_counts_of_components_have_ceilings(role: str, edited: Callable[..., Path]) -> None:
    cases = counted_settings(SOLVERS if role == "solver" else HEADS)
    assert len(cases) >= 4
    for name, field in cases:
        with pytest.raises(AdaptError, match=f"{field}={HUGE} is too large"):
            adapt.load(edited(role, value={"name": name, field: HUGE}))


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ({"name": "auto", "directions": [HUGE]}, "directions=.* is too large"),
        ({"name": "auto", "strengths": [1.0] * 10**5}, "list of 100,000 numbers"),
        ({"name": "descent", "gradient": {"name": "gaussian", "tangents": HUGE}}, "tangents=.* too large"),
        ({"name": "descent", "gradient": {"name": "spsa", "samples": HUGE}}, "samples=.* too large"),
    ],
)
def test_lists_and_estimators_have_ceilings(
    solver: dict[str, Any], message: str, edited: Callable[..., Path]
) -> None:
    with pytest.raises(AdaptError, match=message):
        adapt.load(edited("solver", value=solver))


@pytest.mark.parametrize("rank", [3, 10**4, 65_536, 10**9, HUGE])
def test_a_space_has_as_many_numbers_as_the_file_holds(rank: int, edited: Callable[..., Path]) -> None:
    with pytest.raises(AdaptError, match=r"numbers, and what a file declares has|rank=.* is too large"):
        adapt.load(edited("space", "settings", "rank", value=rank))


def test_a_space_has_no_more_parts_than_tensors(edited: Callable[..., Path]) -> None:
    parts = [{"name": "film", "settings": {}, "parameters": []}] * 10**5
    with pytest.raises(AdaptError, match="100,000 parts"):
        adapt.load(edited("space", "parts", value=parts))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MetaTraining, ["steps", "k", "basis_tasks", "basis_steps", "tasks_per_step", "validation_tasks"]),
        (MetaTraining, ["distinct_tasks", "chunk", "memory_mb", "validate_every"]),
        (Pretraining, ["steps", "batch"]),
    ],
)
def test_training_has_ceilings(kind: Any, settings: list[str]) -> None:
    for setting in settings:
        with pytest.raises(AdaptError, match=rf"meta\.{setting}={HUGE} is too large"):
            kind(**{setting: HUGE})


# ------------------------------------------------------------------------------------------- PEFT


@pytest.fixture
def peft(tmp_path: Path) -> Callable[..., tuple[Path, nn.Module]]:
    """A checkpoint of two layers with these changes to its config, and renamed tensors."""

    def write(
        kind: Callable[[nn.Module], Any] = lora, rename: tuple[str, str] = ("", ""), **changes: Any
    ) -> tuple[Path, nn.Module]:
        network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
        space = kind(network)
        write_peft(tmp_path, space, space.initial)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
        tensors = load_file(tmp_path / "adapter_model.safetensors")
        renamed = {name.replace(*rename) if rename[0] else name: value for name, value in tensors.items()}
        save_file(renamed, tmp_path / "adapter_model.safetensors", {"format": "pt"})  # as PEFT itself does
        return tmp_path, network

    return write


@pytest.mark.parametrize("rank", [3, 65_536, 10**9, HUGE, -1])
def test_the_rank_of_a_checkpoint_is_that_of_its_tensors(rank: int, peft: Any) -> None:
    with pytest.raises(AdaptError, match=r"lora_A has shape \(4, 4\), but of rank"):
        read_peft(*peft(r=rank))


@pytest.mark.parametrize("name", ["*", "[02]", "?", "0,2", " 0", "(a+)+$"])
def test_names_of_modules_in_a_checkpoint_are_no_patterns(name: str, peft: Any) -> None:
    with pytest.raises(AdaptError, match=r"match no layer|no name of a module|does not read"):
        read_peft(*peft(rename=("model.0.", f"model.{name}.")))


@pytest.mark.parametrize("wanted", ["(a+)+$", ".*", ["(x+x+)+y"], [3], ["[02]"], "0|2"])
def test_patterns_of_a_checkpoint_are_not_followed(wanted: Any, peft: Any) -> None:
    with pytest.raises(AdaptError, match="no name of a module, and patterns in files are not followed"):
        read_peft(*peft(adapt.spaces.ia3, feedforward_modules=wanted))


def test_literal_names_are_read_as_ever(peft: Any) -> None:
    for wanted in ("2", ["2"]):
        path, network = peft(
            lambda net: adapt.spaces.ia3(net, targets="0", feedforward="2"), feedforward_modules=wanted
        )
        space, _ = read_peft(path, network)
        assert space.settings == {"targets": "0", "feedforward": "2"}


def test_an_adapter_within_its_budget_is_read_as_ever(folder: Path) -> None:
    assert isinstance(adapt.load(folder), FewShotAdapter)
    assert make_adapter(tiny_conv4()).state.k == 3


@pytest.mark.parametrize("name", ["a" * 10_000, "a\0b", "hf:" + "a" * 10_000, "timm:" + "a" * 10_000])
def test_a_name_that_no_file_can_have_is_one_error(name: str) -> None:
    with pytest.raises(AdaptError):
        load_declared("file", name, {"weights": "random"})


def test_a_setting_too_large_for_a_whole_number_of_torch_is_a_number() -> None:
    given = checked("l2", 10**30, positive(), AdaptError)
    assert type(given) is float and given == 1e30
    assert type(checked("l2", 3, positive(), AdaptError)) is int
