"""A text before all texts, of which a decoder's states are computed once: the whole sequence's values."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import by_rows, check_contract, load_backbone, require, settled, texts
from adapt.backbones.packaged import MODEL_PACKAGES
from adapt.backbones.settled import KNOWN, unmoved
from adapt.forward import pushforward
from adapt.forward.fast import fast
from adapt.forward.functional import functional
from adapt.inner import GaussNewton
from adapt.spaces import Space, film, named
from tests.helpers import distance
from tests.unit.test_backbones_texts import SMALL, TEXTS, ids_of, tokenizer

PREAMBLE = "the dog runs very fast the cat sat on"
#: Two of each class, and what they are.
SUPPORT = [*TEXTS, "a cat sat", "the dog runs", "the card"]
LABELS = ["cat", "dog", "card"] * 2
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}),
    "llama": (
        "LlamaConfig",
        {**SMALL, "max_position_embeddings": 32, "num_key_value_heads": 1, "num_attention_heads": 2},
    ),
    "mistral, with a window": ("MistralConfig", {**SMALL, "num_key_value_heads": 2, "sliding_window": 12}),
    "bert": ("BertConfig", SMALL),
    "mamba, which keeps no keys": (
        "MambaConfig",
        {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
    ),
}
DECODERS = ["gpt2", "llama", "mistral, with a window"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a model with random weights that are no small numbers; returns its folder."""
    transformers = require("transformers")
    root = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Path:
        path = root / kind.partition(",")[0]
        if not path.is_dir():
            config, settings = SIZES[kind]
            made = getattr(transformers, config)(**settings, bos_token_id=0, eos_token_id=0)
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = transformers.AutoModel.from_config(made)
                for parameter in model.parameters():
                    parameter.data.add_(0.1 * torch.randn(parameter.shape))
            transformers.logging.disable_progress_bar()
            model.save_pretrained(path)
            transformers.logging.enable_progress_bar()
            tokenizer(path, padded=kind == "bert")
        return path

    return make


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every time that a preamble goes through a network."""
    found: list[int] = []

    def counted(decoder: Any, ids: Tensor) -> Any:
        found.append(len(ids))
        return original(decoder, ids)

    original = texts.states_of
    monkeypatch.setattr(texts, "states_of", counted)
    return found


def pair(path: Path, **settings: Any) -> tuple[nn.Module, nn.Module]:
    """A backbone with the preamble, and the same without."""
    with_it, _ = load_backbone(f"hf:{path}", preamble=PREAMBLE, **settings)
    return with_it.double(), load_backbone(f"hf:{path}", **settings)[0].double()


def whole(network: Any, ids: Tensor) -> Tensor:
    """The preamble and then the texts, as plain tokens."""
    return torch.cat([network.preamble.expand(len(ids), -1), ids], 1)


def adapter_of(network: nn.Module, names: list[str], k: int = 2) -> FewShotAdapter:
    space = named("it", network, names)
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(space.size, k, generator=generator, dtype=space.initial.dtype) / space.size**0.5
    return FewShotAdapter(network, space, initial_state(space.initial.clone(), basis), GaussNewton())


def norms_of(network: nn.Module) -> list[str]:
    return [*film(network).shapes]


def last_norm(network: nn.Module) -> list[str]:
    """The one behind all layers, which no key and no value has gone through."""
    return [name for name in norms_of(network) if name.split(".")[1] in ("ln_f", "norm")]


@pytest.mark.parametrize("kind", DECODERS)
def test_values_are_those_of_the_whole_sequence(kind: str, folder: Any) -> None:
    network, plain = pair(folder(kind), max_tokens=6)
    ids = ids_of(network, TEXTS)
    assert (ids[:, -1] == 0).tolist() == [False, True, True], "texts are to differ in length"
    assert distance(network(ids), plain(whole(network, ids))) <= 1e-6
    alone = torch.cat([network(ids_of(network, [text])) for text in TEXTS])
    assert distance(network(ids), alone) <= 1e-6
    assert distance(network(ids), plain(ids)) > 1e-2, "the preamble changes nothing"
    check_contract(network, ids, TEXTS)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("n", [1, 3])
def test_tangents_are_those_of_the_whole_sequence(kind: str, engine: Any, n: int, folder: Any) -> None:
    """Every norm moves: with the embeddings behind it, also what is remembered of the preamble."""
    network, plain = pair(folder(kind), max_tokens=6)
    ids = ids_of(network, TEXTS)[:n]
    space = film(network)
    tangents = torch.randn(3, space.size, generator=torch.Generator().manual_seed(1)).double()

    def of(backbone: nn.Module, x: Tensor) -> Any:
        return lambda phi: functional(backbone, space.parameters(phi), (x,))

    found = pushforward(of(network, ids), space.initial, tangents, engine=engine)
    expected = pushforward(of(plain, whole(network, ids)), space.initial, tangents, engine="reference")
    assert distance(found[0], expected[0]) <= 1e-6 and distance(found[1], expected[1]) <= 1e-6
    assert found[1].abs().max() > 1e-2
    fast(of(network, ids), space.initial, tangents)  # raises where only the reference knows how


def test_the_preamble_carries_tangents_of_its_own(folder: Any) -> None:
    """Without those, derivatives along a norm that the preamble goes through are others."""
    network, _ = pair(folder("gpt2"))
    space, ids = film(network), ids_of(network, TEXTS)
    tangent = torch.ones(1, space.size, dtype=torch.float64)
    kept = {KNOWN: settled(network, space.parameters(space.initial), Owner())[KNOWN]}

    def features(more: dict[str, Tensor]) -> Any:
        return lambda phi: functional(network, space.parameters(phi) | more, (ids,))

    moving, still = (pushforward(features(more), space.initial, tangent) for more in ({}, kept))
    assert distance(moving[0], still[0]) <= 1e-6 and distance(moving[1], still[1]) > 1e-2


class Owner:
    """Something that results are kept for."""


def test_texts_are_tokens_behind_prompts_and_under_any_pooling(folder: Any) -> None:
    """Means are over the text's own tokens; learnable vectors stand behind its first."""
    path = folder("gpt2")
    network, plain = pair(path, pooling="mean")
    for text in TEXTS:
        ids = ids_of(network, [text])
        states = plain.transformer(input_ids=whole(network, ids)).last_hidden_state[0]
        assert distance(network(ids)[0], states[len(network.preamble) :].mean(0)) <= 1e-6
    network, plain = pair(path, prompts=1)
    table = plain.transformer.get_input_embeddings().weight
    bare, _ = load_backbone(f"hf:{path}", preamble=PREAMBLE)
    found = functional(network, {"prompt": table[4:5]}, (ids_of(network, ["the sat", "a runs"]),))  # "cat"
    longer = ids_of(network, ["the cat sat", "a cat runs"])
    assert distance(found, bare.double()(longer)) <= 1e-6


def test_many_tasks_and_parts_of_the_examples(folder: Any) -> None:
    network, plain = pair(folder("gpt2"))
    ids = ids_of(network, TEXTS)
    tasks = torch.stack([ids, ids.flip(0)])
    assert distance(vmap(network)(tasks), torch.stack([network(task) for task in tasks])) <= 1e-9
    space = film(network)
    parts = by_rows(network, ids, 2)(space.parameters(space.initial))
    assert distance(parts, plain(whole(network, ids))) <= 1e-6
    adapter = adapter_of(network, norms_of(network))
    both = adapter.fit_many([(SUPPORT, LABELS), (SUPPORT[::-1], LABELS)])
    one = adapter.fit(SUPPORT[::-1], LABELS)
    assert distance(both[1].z, one.z) <= 1e-6


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_fit_and_predict_agree_with_the_whole_sequence(kind: str, folder: Any) -> None:
    network, plain = pair(folder(kind))
    names = norms_of(network)
    task = adapter_of(network, names).fit(SUPPORT, LABELS)
    long = adapter_of(plain, names).fit([f"{PREAMBLE} {text}" for text in SUPPORT], LABELS)
    assert task.z.any() and distance(task.z, long.z) <= 1e-5
    new = ["a cat runs", "lost", "very slow dog on the mat"]
    expected = long.predict_proba([f"{PREAMBLE} {text}" for text in new])
    assert np.allclose(task.predict_proba(new), expected, atol=1e-5)
    assert np.array_equal(task.predict_proba(new), task.predict_proba(new))
    again = adapter_of(network, names).fit(SUPPORT, LABELS)
    assert torch.equal(again.z, task.z), "the same bits in every run"


def test_once_per_pass_and_once_per_fitted_task(
    folder: Any, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    original = texts.going_on

    def counted(decoder: Any, states: Any, n: int) -> dict[str, Any]:
        passes.append(n)
        return original(decoder, states, n)

    monkeypatch.setattr(texts, "going_on", counted)
    network, _ = pair(folder("gpt2"))
    adapter = adapter_of(network, norms_of(network))
    adapter.fit(SUPPORT, LABELS)
    runs.clear()
    passes.clear()
    task = adapter.fit(SUPPORT, LABELS)
    assert len(runs) == len(passes) > 0 and set(passes) == {len(SUPPORT)} and set(runs) == {9}
    runs.clear()
    first = task.predict_proba(TEXTS, batch_size=1)
    assert len(runs) == 1
    assert np.array_equal(task.predict_proba(TEXTS, batch_size=1), first) and len(runs) == 1
    task.predict(["a dog"])
    assert len(runs) == 1
    other = adapter.fit(SUPPORT[::-1], LABELS)
    runs.clear()
    assert not np.allclose(other.predict_proba(TEXTS), first) and len(runs) == 1


@pytest.mark.parametrize("prompts", [0, 2])
def test_once_for_all_where_nothing_that_moves_lies_in_its_path(
    prompts: int, folder: Any, runs: list[int]
) -> None:
    network, plain = pair(folder("gpt2"), prompts=prompts)
    names = ["prompt"] if prompts else last_norm(network)
    assert names
    adapter = adapter_of(network, names)
    check_contract(network, adapter.examples(SUPPORT), SUPPORT)
    runs.clear()
    tasks = [adapter.fit(some, LABELS) for some in (SUPPORT, SUPPORT[::-1])]
    found = [task.predict_proba(TEXTS) for task in tasks]
    assert len(runs) == 1 and tasks[0].z.any()
    with torch.inference_mode():
        assert np.array_equal(tasks[0].predict_proba(TEXTS), found[0])
    if not prompts:
        long = adapter_of(plain, names).fit([f"{PREAMBLE} {text}" for text in SUPPORT], LABELS)
        assert distance(tasks[0].z, long.z) <= 1e-5


def test_nothing_is_kept_of_weights_that_have_changed(folder: Any, runs: list[int]) -> None:
    network, _ = pair(folder("gpt2"))
    still = unmoved(network, last_norm(network))[KNOWN]
    assert unmoved(network, last_norm(network))[KNOWN] is still and len(runs) == 1
    assert unmoved(network, norms_of(network)) == {}
    adapter = adapter_of(network, norms_of(network))
    task = adapter.fit(SUPPORT, LABELS)
    before = task.predict_proba(TEXTS)
    with torch.no_grad():
        network.transformer.wte.weight.mul_(1.5)
    assert not torch.equal(unmoved(network, last_norm(network))[KNOWN], still)
    assert not np.allclose(task.predict_proba(TEXTS), before)
    after = task.predict_proba(TEXTS)
    with torch.no_grad():
        next(iter(task.parameters.values())).mul_(1.5)
    assert not np.allclose(task.predict_proba(TEXTS), after)


def test_a_parameter_that_is_tied_reaches_by_its_other_name(folder: Any) -> None:
    network, _ = pair(folder("gpt2"))
    network.again = network.transformer.wte
    assert unmoved(network, ["again.weight"]) == {} == unmoved(network, ["transformer.wte.weight"])


def test_copies_dtypes_and_autocast(folder: Any) -> None:
    network, _ = load_backbone(f"hf:{folder('gpt2')}", preamble=PREAMBLE)
    adapter = adapter_of(network, norms_of(network))
    task = adapter.fit(SUPPORT, LABELS)
    expected = task.predict_proba(TEXTS)
    copied = copy.deepcopy(task)
    assert np.array_equal(copied.predict_proba(TEXTS), expected)
    assert np.allclose(task.to(torch.float64).predict_proba(TEXTS), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = task.predict_proba(TEXTS)
    assert np.allclose(rough, expected, atol=0.1)
    assert np.array_equal(task.predict_proba(TEXTS), expected)


def test_an_exported_task_has_its_preamble_inside(folder: Any, tmp_path: Path) -> None:
    network, _ = load_backbone(f"hf:{folder('gpt2')}", preamble=PREAMBLE)
    adapter = adapter_of(network, norms_of(network))
    task = adapter.fit(SUPPORT, LABELS)
    path = task.export(tmp_path / "task.pt2", adapter.examples(SUPPORT), format="torch.export")
    ids = adapter.examples(["a dog", "the cat runs"])
    found = torch.export.load(path).module()(ids)
    assert distance(found, task.logits(ids)) <= 1e-4


def test_a_saved_adapter_brings_its_preamble(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = SimpleNamespace(get_model_path=lambda: str(folder("gpt2")))
    monkeypatch.setitem(sys.modules, "tiny_decoder", package)
    monkeypatch.setitem(MODEL_PACKAGES, "tiny", "tiny_decoder")
    network, info = load_backbone("hf:tiny", preamble=PREAMBLE)
    assert info.settings == {"preamble": PREAMBLE}
    again, same = load_backbone("hf:tiny", preamble=PREAMBLE)
    _, other = load_backbone("hf:tiny", preamble="the dog")
    _, none = load_backbone("hf:tiny")
    assert len({info.fingerprint, other.fingerprint, none.fingerprint}) == 3
    assert same.fingerprint == info.fingerprint and torch.equal(again.preamble, network.preamble)
    task = adapter_of(network, norms_of(network)).fit(SUPPORT, LABELS)
    task.save_pretrained(tmp_path / "task")
    config = json.loads((tmp_path / "task" / "adapter_config.json").read_text())
    assert config["backbone"]["settings"] == {"preamble": PREAMBLE}
    loaded = adapt.load(tmp_path / "task")
    assert np.allclose(loaded.predict_proba(TEXTS), task.predict_proba(TEXTS), atol=1e-6)


def test_what_cannot_go_on_from_a_preamble_is_refused(folder: Any) -> None:
    for kind, settings, message in (
        ("bert", {"preamble": PREAMBLE}, r"bert is an encoder: .* leave preamble out and write it in front"),
        ("mamba, which keeps no keys", {"preamble": PREAMBLE}, "mamba keeps no states of earlier tokens"),
        ("mistral, with a window", {"preamble": f"{PREAMBLE} {PREAMBLE}"[:60]}, "looks back at 12 tokens"),
        ("gpt2", {"preamble": ""}, "preamble is empty: write a text, or leave it out"),
        ("gpt2", {"preamble": "  "}, "preamble='  ' holds no token"),
        ("gpt2", {"preamble": 3}, "preamble=3 is no text"),
        ("gpt2", {"preamble": "a " * 600_000}, "has 1,200,000 characters: give 1,000,000 at most"),
        (
            "gpt2",
            {"preamble": " ".join(["dog"] * 32)},
            "has 32 tokens and leaves no place for a text, the model has 32 for both: shorten it by 1",
        ),
        ("gpt2", {"preamble": PREAMBLE, "prompts": 23}, "has 9 tokens .* the model has 9 for both"),
    ):
        with pytest.raises(AdaptError, match=message):
            load_backbone(f"hf:{folder(kind)}", **settings)
    network, _ = load_backbone(f"hf:{folder('gpt2')}", preamble=" ".join(["dog"] * 28))
    assert network.max_tokens == 4
    assert load_backbone(f"hf:{folder('gpt2')}", preamble=None)[0].max_tokens == 32
    with pytest.raises(AdaptError, match="masking=added: only what looks at no later token"):
        texts.Texts(network.transformer, network.tokenizer, pad=0, preamble=[1])


def test_spaces_do_not_see_what_is_kept(folder: Any) -> None:
    network, plain = pair(folder("gpt2"))
    made: Space = film(network)
    assert made.shapes == film(plain).shapes
    assert KNOWN not in network.state_dict() and "preamble" in network.state_dict()


@pytest.mark.parametrize("ids", [[-1], [10**6], [1.5]], ids=str)
def test_ids_of_ones_own_are_checked(ids: list[Any], folder: Any) -> None:
    network, _ = load_backbone(f"hf:{folder('gpt2')}")
    with pytest.raises(AdaptError, match="preamble"):
        type(network)(network.transformer, network.tokenizer, pad=network.pad, preamble=ids)
