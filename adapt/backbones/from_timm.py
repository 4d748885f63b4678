"""``timm:<name>``: the convolutional networks and vision transformers of timm."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapt.backbones.arguments import SHARE, SIZE, Rule, either, flag, number, word
from adapt.backbones.built import Built
from adapt.backbones.images import Images
from adapt.backbones.libraries import require
from adapt.backbones.prompts import prompted
from adapt.backbones.weights import PRETRAINED, RANDOM, drawn, is_local, load_file, pretrained, regular_files
from adapt.checks import DEPTH, WIDTH, least, positive
from adapt.errors import AdaptError

__all__ = ["TIMM", "from_timm"]

COUNT = either(least(1, ceiling=WIDTH))
#: Arguments of ``timm.create_model`` that may be set: what a network is made of, by number or by name. Not
#: where its weights come from (``pretrained_cfg``, ``checkpoint_path``, …), nor where it runs.
TIMM: Mapping[str, Rule] = {
    **dict.fromkeys(("in_chans", "patch_size", "num_heads", "embed_dim", "dims"), COUNT),
    **dict.fromkeys(("base_width", "cardinality", "stem_width", "head_conv", "num_features"), COUNT),
    **dict.fromkeys(("depth", "depths", "window_size", "output_stride"), either(least(1, ceiling=DEPTH))),
    "img_size": either(SIZE),
    "reg_tokens": number(least(0, ceiling=DEPTH)),
    **dict.fromkeys(
        ("mlp_ratio", "init_values", "channel_multiplier", "depth_multiplier"), either(positive())
    ),
    **dict.fromkeys(("drop_rate", "drop_path_rate", "pos_drop_rate", "attn_drop_rate"), SHARE),
    **dict.fromkeys(("patch_drop_rate", "proj_drop_rate"), SHARE),
    **dict.fromkeys(("class_token", "no_embed_class", "pre_norm", "final_norm", "fc_norm"), flag),
    **dict.fromkeys(("qkv_bias", "qk_norm", "dynamic_img_size", "dynamic_img_pad"), flag),
    **dict.fromkeys(("strict_img_size", "aa", "avg_down"), flag),
    **dict.fromkeys(("act_layer", "norm_layer", "pad_type", "pos_embed", "global_pool", "weight_init"), word),
}


def from_timm(
    name: str,
    *,
    weights: str = PRETRAINED,
    seed: int = 0,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pooling: str | None = None,
    prompts: int = 0,
    **arguments: Any,
) -> Built:
    """A network of timm without its classifier, behind :class:`Images`.

    Args:
        name: as ``timm.list_models()`` has it, with or without the tag of its weights.
        weights: ``pretrained``, ``random`` (drawn from ``seed``), a file, or ``package:…``.
        size: side of the images; None: what the weights were trained with.
        mean, std: None: those of the weights.
        pooling: timm's ``global_pool``; None: the model's own.
        prompts: learnable vectors behind the first token of a transformer.
        arguments: others of ``timm.create_model``, for instance ``pad_type="same"``, ``in_chans=1``: those of
            :data:`TIMM`.

    Raises:
        AdaptError: unknown name or argument, or weights that cannot be had.
    """
    timm = require("timm")
    with pretrained(f"timm:{name}"):
        regular_files(name.removeprefix("local-dir:"))
    if not name.startswith(("hf-hub:", "local-dir:")) and not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:3]
        raise AdaptError(
            f"timm has no model '{name}': timm.list_models() lists them"
            + (f", for instance {', '.join(close)}" if close else "")
        )
    given = dict(arguments)
    if pooling is not None:
        given["global_pool"] = pooling
    known = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    if size is not None and known is not None and known.fixed_input_size:
        given.setdefault("img_size", size)
    download = weights == PRETRAINED
    with drawn(seed), pretrained(f"timm:{name}", download):
        network = _created(timm, name, download, given)
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            # Fused attention has no forward derivative, and vmap, which meta-training uses, does not know it.
            module.fused_attn = False
    if weights not in (PRETRAINED, RANDOM):
        classifier = network.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        load_file(network, weights, ignored=[f"{head}." for head in heads])
    data = timm.data.resolve_model_data_config(network)
    channels = given.get("in_chans", data["input_size"][0])
    side = size or given.get("img_size") or data["input_size"][-1]
    return Built(
        Images(
            prompted(network, prompts, seed),
            size=side,
            mean=_fitting(mean or data["mean"], channels),
            std=_fitting(std or data["std"], channels),
            channels=channels,
        ),
        local=is_local(weights) or name.startswith("local-dir:"),
    )


def _created(timm: Any, name: str, download: bool, given: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=download, num_classes=0, **given)
    except (TypeError, AssertionError, KeyError) as error:
        raise AdaptError(f"timm:{name} does not take these settings: {error}") from None


def _fitting(values: Sequence[float], channels: int) -> Sequence[float]:
    """Of three colours, for a network whose first layer was cut to grey: their average."""
    return values if len(values) in (1, channels) else [sum(values) / len(values)]
