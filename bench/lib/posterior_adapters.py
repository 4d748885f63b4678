"""Adapters that ``bench/posterior.py`` needs and that do not ship: four more MAMLs for each of two domains,
which with the one that ships are an ensemble, and one for each of two domains that none ships for."""

from pathlib import Path

import torch

import adapt
from adapt.adapter import FewShotAdapter
from adapt.app.progress import progress
from adapt.backbones.mlp import Mlp
from adapt.meta import MetaTraining, initial_basis, meta_train
from bench.lib.runs import command_line
from tasks import FunctionTasks

__all__ = ["MEMBERS", "NETWORKS", "ensemble", "is_trained", "learned", "loss_of"]

MEMBERS = 5
CONFIG = "adapter_config.json"
#: Sizes of the networks, and of what they are meta-trained on, as of those that ship.
NETWORKS = {
    "mlp_sinusoid": ((1, 40, 40, 1), "relu", (10, 10)),
    "mlp_vehicle_dynamics": ((5, 64, 64, 3), "tanh", (50, 50)),
}
SMALL = {"steps": 1, "tasks_per_step": 2, "validate_every": 1, "validation_tasks": 2, "distinct_tasks": 0}
QUICK = tuple(f"meta.{name}={value}" for name, value in SMALL.items())


def ensemble(name: str, tasks: FunctionTasks, folder: Path, *, quick: bool) -> list[FewShotAdapter]:
    """The MAML that ships, and as many more as make :data:`MEMBERS`, meta-trained with its settings from
    other initial weights on other tasks of ``tasks``' source; those that are in ``folder`` are not trained
    again."""
    first: FewShotAdapter = adapt.load(f"{name}_maml")
    seeds = range(1, 2 if quick else MEMBERS)
    return [first, *(_member(name, first, tasks, seed, folder, quick=quick) for seed in seeds)]


def is_trained(name: str, folder: Path, *, quick: bool) -> bool:
    """Whether the ensemble of a domain is in ``folder``: training, which takes long, is a part of its own."""
    return name in NETWORKS and (_path(name, 1 if quick else MEMBERS - 1, folder) / CONFIG).exists()


def _path(name: str, seed: int, folder: Path) -> Path:
    return folder / f"{name}_maml_{seed}"


def _member(
    name: str, like: FewShotAdapter, tasks: FunctionTasks, seed: int, folder: Path, *, quick: bool
) -> FewShotAdapter:
    path = _path(name, seed, folder)
    if (path / CONFIG).exists():
        return adapt.load(path)
    sizes, activation, amounts = NETWORKS[name]
    settings = MetaTraining(**{**like.info["training"]["settings"], **(SMALL if quick else {})})
    train, validation = (
        FunctionTasks(tasks.source, *amounts, split, seed=number)
        for split, number in (("train", seed), ("validation", 0))
    )
    weights = dict(Mlp(sizes, activation, seed).named_parameters())
    origin = torch.cat([weights[key].detach().flatten() for key in like.space.shapes])
    begun = initial_basis(like.backbone, like.space, like.problem, [], settings, seed=seed)
    state, metrics = meta_train(
        like.backbone,
        like.space,
        begun._replace(origin=origin),
        like.solver,
        like.problem,
        train,
        validation,
        settings,
        seed=seed,
        progress=progress(f"{name}, MAML {seed}"),
    )
    made = like.replace(state=state, info={"training": {"seed": seed, **metrics}})
    made.save_pretrained(path)
    return made


def learned(name: str, folder: Path, *, quick: bool) -> FewShotAdapter:
    """That of ``experiment=meta_…`` for volatility or gridworld, meta-trained and calibrated as a user would
    by the command line, unless it has been done."""
    path = (folder / name).resolve()
    if not (path / CONFIG).exists():
        print(f"meta-training {name}", flush=True)
        more = (*QUICK, "meta.k=2") if quick else ()
        own = ["tracking=none", f"output={path}", f"hydra.run.dir={path}.run"]
        command_line([f"experiment=meta_{name}", *more, *own], quick=quick)
    return adapt.load(path)


def loss_of(adapter: FewShotAdapter) -> float:
    """On validation tasks, where its meta-training ended."""
    return float(adapter.info["training"]["validation/loss"])
