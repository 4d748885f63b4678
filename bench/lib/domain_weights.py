"""The backbones of ``bench/lib/domains.py`` that nobody ships: how they are trained, written and read.

The residual network learns to classify all classes, as the shipped conv4 did. The transformer would take too
long to learn so (after 350 steps its loss is still what it is by chance): it is trained on episodes by its
class means instead, as in Snell et al. (2017), *Prototypical Networks*, each image classified by the means of
the others (leave-one-out). Its patches are embedded by four convolutions: Xiao et al. (2021), *Early
Convolutions Help Transformers See Better*.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adapt.app.environment import environment
from adapt.backbones import ResNet12, fingerprint, freeze_batch_norm, require
from adapt.errors import AdaptError
from adapt.files import read_json, read_tensors, write_json, write_tensors
from adapt.heads import Head, Logistic, Prototype, Ridge, one_hot
from adapt.meta import Pretraining, image_batches, pretrain
from bench.lib.domain_tasks import SEED, TASKS, glyphs
from bench.lib.paths import KEPT
from tasks import Distribution

__all__ = ["QUICK_RECIPES", "RECIPES", "Recipe", "accuracies", "prepare", "trained", "weights_folder"]

Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Episodes:
    """Training by class means: ``ways`` classes of ``images`` in a step, AdamW on a one-cycle schedule."""

    steps: int
    ways: int = 16
    images: int = 4
    lr: float = 1e-3
    weight_decay: float = 0.05
    autocast: bool = True


@dataclass(frozen=True)
class Recipe:
    """A network by its arguments, and how it is trained on the glyphs of the split ``pretrain``."""

    arguments: Mapping[str, Any]
    settings: Pretraining | Episodes


# Sized for ten and for three minutes of one core. A step of the transformer would cost four times as much
# with patches of 4 pixels, and twice as much with twelve blocks, as the original has.
VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "in_chans": 1, "num_classes": 0, "depth": 6}
VIT |= {"class_token": False, "global_pool": "avg"}
RECIPES = {
    "resnet12": Recipe({"channels": 1, "width": 16}, Pretraining(steps=2400)),
    "vit_tiny": Recipe(VIT, Episodes(steps=800)),
}
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2}
QUICK_RECIPES = {
    "resnet12": Recipe({"channels": 1, "width": 4}, Pretraining(steps=20, batch=32, autocast=False)),
    "vit_tiny": Recipe({**VIT, **SMALL}, Episodes(steps=20, ways=8, autocast=False)),
}


def weights_folder(name: str) -> Path:
    """Not in git."""
    return KEPT / "pretrained" / name


def untrained(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """With batch statistics, as pretraining starts from it."""
    if name == "resnet12":
        return ResNet12(**arguments, frozen=False)
    backbone = require("timm").create_model("vit_tiny_patch16_224", **arguments)
    backbone.patch_embed.proj = _stem(arguments["in_chans"], backbone.embed_dim)
    return backbone


def _stem(channels: int, width: int) -> nn.Sequential:
    """``[n, channels, 8a, 8b] → [n, width, a, b]``."""
    layers: list[nn.Module] = []
    for outputs in (width // 8, width // 4, width // 2):
        layers += [nn.Conv2d(channels, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        channels = outputs
    return nn.Sequential(*layers, nn.Conv2d(channels, width, 1))


def train(name: str, recipe: Recipe, quick: bool, report: Report = lambda step, metrics: None) -> nn.Module:
    """The trained network, its batch norms frozen; decided by recipe and seed."""
    tasks, settings = glyphs("pretrain_glyphs", quick), recipe.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        backbone = untrained(name, recipe.arguments)
        if isinstance(settings, Pretraining):
            batches, classes = image_batches(
                tasks.source, tasks.support_split, tasks.transform, settings.batch, SEED
            )
            pretrain(backbone, batches, classes, settings, seed=SEED, report=report)
        else:
            # The first features of a transformer are nearly the same for all images: while it is trained, a
            # batch norm centres and scales them.
            norm: nn.LayerNorm = backbone.get_submodule("fc_norm")  # type: ignore[assignment]
            backbone.head = centring = nn.BatchNorm1d(norm.normalized_shape[0])
            _train_on_episodes(backbone, tasks, settings, report)
            fold(centring, norm)
            backbone.head = nn.Identity()
    return freeze_batch_norm(backbone).eval()


def _train_on_episodes(backbone: nn.Module, tasks: Distribution, settings: Episodes, report: Report) -> None:
    episodes = replace(tasks, ways=settings.ways, shots=settings.images - 1, queries=1)
    head = Prototype()
    groups = [
        {"params": [p for p in backbone.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in backbone.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, pct_start=0.2
    )
    backbone.train()
    recent: list[tuple[float, float]] = []
    for step in range(settings.steps):
        episode = episodes.episode(step)
        x = torch.cat([episode.support_x, episode.query_x])
        labels = torch.cat([episode.support_y, episode.query_y])
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.autocast):
            features = backbone(x)
        logits = head.loo_logits(features.float(), one_hot(labels, settings.ways))
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        recent.append((loss.item(), (logits.argmax(1) == labels).float().mean().item()))
        if (step + 1) % 100 == 0 or step + 1 == settings.steps:
            means = np.mean(recent[-100:], axis=0)
            report(step + 1, {"train/loss": float(means[0]), "train/accuracy": float(means[1])})


@torch.no_grad()
def fold(batch_norm: nn.BatchNorm1d, norm: nn.LayerNorm) -> None:
    """Give ``norm`` the affine map of the batch norm that follows it: the same function, one norm less."""
    assert batch_norm.running_mean is not None and batch_norm.running_var is not None
    scale = batch_norm.weight * (batch_norm.running_var + batch_norm.eps).rsqrt()
    norm.bias.copy_((norm.bias - batch_norm.running_mean) * scale + batch_norm.bias)
    norm.weight.mul_(scale)


def prepare(name: str) -> Path:
    """Make the weights of ``name`` and write them, with how they were made; returns their folder."""
    recipe = RECIPES[name]
    started = time.perf_counter()

    def report(step: int, metrics: dict[str, float]) -> None:
        values = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        passed = time.perf_counter() - started
        print(f"{name}: step {step} of {recipe.settings.steps}, {passed:.0f} s, {values}", flush=True)

    backbone = train(name, recipe, False, report)
    seconds = time.perf_counter() - started
    validation = TASKS[name](False)[1]
    accuracy = {
        f"validation/accuracy_{head}": float(np.mean(values))
        for head, values in accuracies(backbone, validation, range(100)).items()
    }
    where = environment(torch.device("cpu"))
    folder = weights_folder(name)
    write_tensors(folder / "backbone.safetensors", backbone.state_dict())
    # Last: what has no JSON is not there.
    write_json(
        folder / "backbone.json",
        {
            "name": name,
            "recipe": _plain(recipe),
            "seed": SEED,
            "seconds": round(seconds, 1),
            **accuracy,
            "data": validation.source.name,
            "data_sha256": validation.source.digest(),
            "fingerprint": fingerprint(backbone),
            "device": where["device"],
            "threads": where["threads"],
            "versions": where["versions"],
        },
    )
    print(f"{name}: {seconds:.0f} s, " + ", ".join(f"{key} {value:.4f}" for key, value in accuracy.items()))
    return folder


def _plain(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.settings
    return {
        "arguments": dict(recipe.arguments),
        "by": type(settings).__name__.lower(),
        "settings": asdict(settings),
    }


def trained(name: str, quick: bool) -> tuple[nn.Module, str]:
    """The network with the weights that :func:`prepare` made, or trained for seconds, and a line on them.

    Raises:
        AdaptError: no weights, or not those of this recipe and these glyphs.
    """
    if quick:
        recipe = QUICK_RECIPES[name]
        return train(name, recipe, True), f"trained here for {recipe.settings.steps} steps on few glyphs"
    folder = weights_folder(name)
    info = read_json(folder / "backbone.json")
    remedy = f"python -m bench.lib.domains --prepare {name}"
    if info["recipe"] != _plain(RECIPES[name]) or info["seed"] != SEED:
        raise AdaptError(f"the weights in {folder} were made by another recipe: {remedy}")
    # Other fonts make other classes and other splits: what is validation here may have been trained on.
    if info["data_sha256"] != glyphs("pretrain_glyphs", quick).source.digest():
        raise AdaptError(
            f"the weights in {folder} were trained on other glyphs than are drawn here: {remedy}"
        )
    backbone = freeze_batch_norm(untrained(name, RECIPES[name].arguments))
    backbone.load_state_dict(read_tensors(folder / "backbone.safetensors"))
    if fingerprint(backbone) != info["fingerprint"]:
        raise AdaptError(f"the weights in {folder} are not those its JSON was written for: {remedy}")
    return backbone, f"pretrained on glyphs by bench/lib/domains.py in {info['seconds']:.0f} s"


def accuracies(backbone: nn.Module, tasks: Distribution, indices: Iterable[int]) -> dict[str, list[float]]:
    """Accuracy of the frozen features by head, task by task."""
    heads: dict[str, Head] = {"prototype": Prototype(), "ridge": Ridge(), "logistic": Logistic()}
    scores: dict[str, list[float]] = {name: [] for name in heads}
    with torch.no_grad():
        for episode in map(tasks.episode, indices):
            support, query = backbone(episode.support_x), backbone(episode.query_x)
            for name, head in heads.items():
                state = head.fit(support, one_hot(episode.support_y, tasks.ways))
                right = head.logits(state, query).argmax(-1) == episode.query_y
                scores[name].append(right.double().mean().item())
    return scores
