"""Adapters and settings that comparisons of inner loops share: an adapter is meta-trained for a domain, every
method's settings are chosen from a grid on validation tasks, and the chosen are compared on test tasks. Each
step is kept in a folder, and not done again."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

import adapt
from adapt.adapter import Context, FewShotAdapter, Forward, Method, Problem, Support
from adapt.app.environment import environment
from adapt.app.progress import progress
from adapt.baselines import Backprop
from adapt.compare import Comparison, compare
from adapt.files import read_json, write_json
from adapt.heads import Logistic, one_hot
from adapt.inner import Descent, GaussNewton, Linearised
from adapt.meta import MetaTraining, initial_basis, meta_train
from bench.lib.domains import Domain
from tasks import Distribution, Episode

HEAD = Logistic(l2=0.03)
NESTED = (2, 4, 8)
#: Of gradients of the mean support loss, which are small. From 10 on most tasks end where they began: the
#: loss rises, and FewShotAdapter.fit goes back to z = 0.
RATES = (0.1, 1.0)
SHIPPED = {"conv4": "conv4_glyphs_film"}
#: Validation tasks come in two parts: for keeping the best state, and for choosing settings.
CHOOSING = 10_000
TOLERANCE = 0.001  # chosen is the cheapest setting within a tenth of a point of the best


def outputs_of(episode: Episode) -> torch.Tensor:
    """Logits ``[m, C]`` of the queries, by the head on the support, of examples that are features."""
    with torch.no_grad():
        state = HEAD.fit(episode.support_x, one_hot(episode.support_y, len(episode.meta.classes)))
        return HEAD.logits(state, episode.query_x)


def forward_grid() -> Iterator[tuple[str, Method]]:
    """Nine Gauss–Newton settings."""
    for k, (steps, damping) in product(NESTED, ((1, 1.0), (1, 0.3), (2, 1.0))):
        yield f"k={k} steps={steps} damping={damping}", Forward(GaussNewton(steps, damping), HEAD, k)


def linearised_grid() -> Iterator[tuple[str, Method]]:
    """Six linearised settings."""
    for k, damping in product(NESTED, (1.0, 0.3)):
        yield f"k={k} damping={damping}", Forward(Linearised(damping=damping), HEAD, k)


def backprop_grid() -> Iterator[tuple[str, Method]]:
    """Nine settings of Adam, two of SGD with momentum."""
    adam = [("adam", lr, steps) for steps, lr in product((1, 3, 10), (0.003, 0.01, 0.03))]
    momentum = [("momentum", lr, 5) for lr in RATES]
    for optimizer, lr, steps in sorted(adam + momentum, key=lambda setting: setting[2]):
        yield f"{optimizer} lr={lr} steps={steps}", Backprop(Descent(optimizer, lr, steps), HEAD)


def sgd_grid() -> Iterator[tuple[str, Method]]:
    """Rates of the plain SGD that learn2learn and higher share, three steps each."""
    for lr in RATES:
        yield str(lr), Backprop(Descent("sgd", lr, 3), HEAD)


GRIDS = {"gauss_newton": forward_grid, "linearised": linearised_grid, "backprop": backprop_grid}


def adapter_of(chosen: Domain, settings: MetaTraining, folder: Path, *, quick: bool) -> FewShotAdapter:
    """The shipped one, or meta-trained for the domain, unless that has been done."""
    if chosen.name in SHIPPED and not quick:
        return adapt.load(SHIPPED[chosen.name], chosen.backbone).replace(head=HEAD)
    path, problem = folder / "adapter", Problem(head=HEAD)
    if (path / "adapter_config.json").exists():
        return adapt.load(path, chosen.backbone)
    if quick:
        small = {"basis_tasks": 4, "basis_steps": 2, "steps": 1, "validation_tasks": 2, "tasks_per_step": 1}
        settings = replace(settings, k=2, nested=(), **small)
    started = time.perf_counter()
    episodes = (chosen.train.episode(10**6 + index) for index in range(settings.basis_tasks))
    start = initial_basis(chosen.backbone, chosen.space, problem, episodes, settings)
    print(f"{chosen.name}: first basis after {time.perf_counter() - started:.0f} s", flush=True)
    state, metrics = meta_train(
        chosen.backbone,
        chosen.space,
        start,
        GaussNewton(),
        problem,
        chosen.train,
        chosen.validation,
        settings,
        progress=progress(f"{chosen.name}: meta-training"),
        report=_print_validation,
    )
    seconds = time.perf_counter() - started
    training = {"seconds": seconds, "settings": {k: str(v) for k, v in vars(settings).items()}, **metrics}
    made = FewShotAdapter(chosen.backbone, chosen.space, state, head=HEAD, info={"training": training})
    made.save_pretrained(path)
    return made


def _print_validation(step: int, metrics: Mapping[str, float]) -> None:
    if "validation/loss" in metrics:
        print(step, {name: round(value, 4) for name, value in metrics.items()}, flush=True)


def choices(
    chosen: Domain, adapter: FewShotAdapter, folder: Path, *, tasks: int
) -> dict[str, dict[str, float]]:
    """Validation accuracy of every setting of every grid, ``{method: {setting: accuracy}}``; kept."""
    path = folder / "validation.json"
    found = read_json(path) if path.exists() else {}
    for name, grid in {**GRIDS, "sgd": sgd_grid}.items():
        known = found.setdefault(name, {})
        for setting, method in grid():
            too_many = isinstance(method, Forward) and method.k is not None and method.k > adapter.state.k
            if setting in known or too_many:
                continue
            known[setting] = accuracy_of(method, chosen.validation, adapter, tasks)
            write_json(path, found)
        found[name] = {setting: known[setting] for setting, _ in grid() if setting in known}
        print(chosen.name, name, found[name], flush=True)
    return found


def accuracy_of(
    method: Method, tasks: Distribution, adapter: FewShotAdapter, n: int, first: int = CHOOSING
) -> float:
    """Mean accuracy of ``method`` on n tasks from number ``first`` on."""
    run = method.prepare(Context(adapter.backbone, adapter))
    scores = []
    for index in range(first, first + n):
        episode = tasks.episode(index)
        with torch.no_grad():
            predictor = run(
                Support(episode.support_x, episode.support_y, episode.meta.classes), lambda _: None
            )
            scores.append(float((predictor(episode.query_x).argmax(-1) == episode.query_y).double().mean()))
    return float(np.mean(scores))


def winner(accuracies: Mapping[str, float]) -> str:
    """The first (grids go from cheap to dear) within the tolerance of the best."""
    best = max(accuracies.values())
    return next(setting for setting, accuracy in accuracies.items() if accuracy >= best - TOLERANCE)


def compared(
    path: Path,
    methods: Mapping[str, Method],
    tasks: Distribution,
    adapter: FewShotAdapter,
    *,
    experiment: str,
    shown: str,
    number: int,
    device: torch.device,
    memory: bool = False,
) -> Comparison:
    """On the first ``number`` of ``tasks``, kept in ``path``; ``shown``: beside its progress."""
    if not path.exists():
        result = compare(
            methods,
            tasks,
            Context(adapter.backbone, adapter),
            experiment=experiment,
            task={"source": tasks.source.name, "ways": tasks.ways, "shots": tasks.shots},
            tasks=number,
            device=device,
            memory=memory,
            environment=environment(device),
            progress=progress(shown),
        )
        write_json(path, result.to_dict())
    return Comparison.from_dict(read_json(path))
