"""A smaller network, taught by a fitted task on examples without labels.

    p_i = softmax(o(x_i, z*)) ,   or, with ``average``,   E_z softmax(o(x_i, z))
    q_i = p_i^(1/T) / Σ_c p_ic^(1/T)
    (W, θ) ← (W, θ) − AdamW(∇ mean_i (1 − w_i) T² CE(q_i, softmax(s_i / T)) + w_i CE(y_i, softmax(s_i)))

Hinton, Vinyals and Dean (2015), *Distilling the Knowledge in a Neural Network*, section 2; s_i are the
outputs of the student, a head W on features θ, w_i is 0 without a label. The mean over the posterior for a
teacher: Balan, Rathod, Murphy and Welling (2015), *Bayesian Dark Knowledge*, who draw samples; z has few
directions, and its mean is in closed form but for an approximation (:class:`adapt.adapter.Predictive`). It
takes more passes and was no better where it was measured (``bench/distil.py``), so it has to be asked for. A
regression teaches its values v_i:  (1 − w_i) ½ ‖v_i − s_i‖² + w_i ½ ‖y_i − s_i‖².

Differences to the papers: a head fitted to the teacher's probabilities comes first, as in fine-tuning
(:mod:`adapt.baselines.finetune`), statistics of norms stay as they are, and of all epochs the one is kept
that is best on examples held out. This is offline, and trains by backpropagation; adapting never does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter import FewShotAdapter, FittedTask, initial_state
from adapt.adapter.inputs import Examples, Labels, as_targets, no_other
from adapt.adapter.loaders import is_loader, paired, parts_of
from adapt.adapter.moved import first_line
from adapt.adapter.parts import check_names
from adapt.backbones import plain_call, tokeniser
from adapt.baselines._module import trainable_copy, trained
from adapt.baselines.retrain import RULES, Training, train
from adapt.checks import SEED, WIDTH, Number, between, check_setting, check_settings, least, positive
from adapt.errors import AdaptError
from adapt.heads import Head, Logistic, Ridge, is_transductive, one_hot
from adapt.heads.base import check_outputs, state_shape
from adapt.inner import Trace
from adapt.spaces import full
from tasks.readers.texts import holds_texts

__all__ = ["Distillation", "Loss", "distilled", "loss_of", "taught"]

#: Of outputs ``[n, C]`` and what :func:`_packed` makes of their targets ``[n, 2 C + 1]``.
Loss = Callable[[Tensor, Tensor], Tensor]
#: One to learn from, and one to hold out.
FEWEST = 2
#: Examples whose loss is computed at once.
ROWS = 256


@dataclass(frozen=True)
class Distillation:
    """Batches of ``batch`` examples for ``epochs``, peak rate ``lr``; of the examples without labels the
    share ``held_out`` says which epoch is kept. ``temperature`` T softens probabilities; a label counts
    ``label_weight`` w, and what the teacher says of the same example 1 − w."""

    epochs: int = 30
    batch: int = 16
    lr: float = 3e-3
    weight_decay: float = 0.0
    temperature: float = 1.0
    held_out: float = 0.2
    label_weight: float = 0.5

    def __post_init__(self) -> None:
        some = "some must be held out, and some are to learn from"
        check_settings(
            self,
            "distil",
            batch=least(1, ceiling=WIDTH),
            temperature=positive(),
            held_out=Number(above=0, below=1, why=some),
            label_weight=between(0, 1),
            **{name: rule for name, rule in RULES.items() if name in ("epochs", "lr", "weight_decay")},
        )


def distilled(
    task: FittedTask,
    student: nn.Module | str,
    unlabelled: Examples,
    x: Examples | None = None,
    y: Labels | None = None,
    *,
    average: bool = False,
    head: Head | None = None,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda epoch, loss: None,
    **settings: Any,
) -> FittedTask:
    """``student``, trained to say what ``task`` says: a fitted task like any other, with the labels of the
    teacher. Its trace holds the held-out losses. It has no posterior, and its adapter, which starts at the
    student's new weights, no direction to move along: fitted to other labels it learns a head. A student with
    weights of the caller's is needed again to load what was saved, as it was before: ``adapt.load(folder,
    student)``.

    Args:
        task: the teacher; its head predicts each example alone.
        student: maps examples to features ``[n, D]``, or the name of a backbone. A module is copied.
        unlabelled: examples like those that are to be predicted, as ``task.predict`` takes them.
        x, y: examples with labels or values, such as those that the teacher was fitted to.
        average: whether the teacher's probabilities are means over what is not known of z, with its
            calibrated temperature, from 1 + k passes, for which it needs a posterior. Values are their own
            mean.
        head: a linear map of the student's features, or ``heads.Direct()`` for none. None: logistic, of
            values ridge.
        seed: of the order of examples, of those held out, and of what is random in the student.
        report: called before the first epoch and after each with its number and the held-out loss.
        settings: of :class:`Distillation`, by name.

    Raises:
        AdaptError: a teacher, a student, examples or settings that cannot be used.

    Example:
        >>> import adapt
        >>> x = torch.linspace(-3, 3, 20)[:, None]
        >>> task = adapt.load("mlp_sinusoid").fit(x, x.sin())
        >>> small = adapt.distil(task, "mlp:1-12-12", torch.linspace(-3, 3, 200)[:, None], lr=0.01)
        >>> small.score(x, task.predict(x)) > 0.9
        True
    """
    chosen = _settings(settings)
    _check_teacher(task, average)
    regression = task.adapter.loss.regression
    generator = torch.Generator().manual_seed(check_setting("seed", seed, SEED))
    pupil = _pupil(student, head, regression).to(task.z.device)
    if is_loader(unlabelled):
        unlabelled = parts_of(unlabelled, ordered=True)[0]
    lessons = _lessons(task, pupil, unlabelled, x, y, average, chosen)
    n = lessons.unlabelled
    order = torch.randperm(n, generator=generator)
    held = order[: min(max(1, round(chosen.held_out * n)), n - 1)]
    rows = torch.cat([order[len(held) :], torch.arange(n, len(lessons.x))])
    loss = loss_of(regression, chosen.temperature)
    network = _started(pupil, lessons.x[rows], lessons.targets[rows], chosen)
    losses, best = _trained(network, lessons, rows, held, loss, chosen, generator, report)
    with torch.no_grad():
        parameters = dict(network.body.named_parameters())
        origin = torch.cat([parameters[name].reshape(-1) for name in pupil.space.shapes]).detach()
    name = task.adapter.backbone_name or type(task.adapter.backbone).__name__
    about = {
        "teacher": name,
        "examples": n,
        "with labels": len(lessons.x) - n,
        "mean of the posterior": average,
    }
    told = {**about, **vars(chosen), "seed": seed, "epoch": best, "held-out loss": min(losses)}
    state = initial_state(origin, origin.new_zeros(len(origin), 0))
    adapter = pupil.replace(state=state, info={**pupil.info, "distilled": told})
    choice = f"distilled from {name}: epoch {best} of {chosen.epochs}"
    trace = Trace(origin.new_tensor(losses), 3.0 * chosen.epochs, choice)
    head_state, z = network.state.detach().clone(), origin.new_zeros(0)
    parts = adapter.subspace.parameters(z)
    return FittedTask(adapter, parts, head_state, task.classes_, z, trace, task.outputs)


def taught(task: FittedTask, x: Examples, average: bool, temperature: float) -> Tensor:
    """What ``task`` says of ``x [n, …]``: probabilities q ``[n, C]``, or values.

    Raises:
        AdaptError: some are not finite.
    """
    if task.adapter.loss.regression:
        said = task.logits(x)
    elif average:
        p = torch.from_numpy(task.predict_proba(x, average=True)).to(task.z.device)
        said = (p.clamp(min=torch.finfo(p.dtype).tiny).log() / temperature).softmax(-1)
    else:
        said = (task.logits(x) / temperature).softmax(-1)
    if not bool(torch.isfinite(said).all()):
        bad = int((~torch.isfinite(said).all(1)).nonzero()[0])
        raise AdaptError(f"the teacher gives NaN or infinity for example {bad}: there is nothing to learn")
    return said


def loss_of(regression: bool, temperature: float) -> Loss:
    """The loss of outputs s ``[n, C]``, as above, given q, y and w side by side ``[n, 2 C + 1]``.

    Its gradient, for classes and without labels, is T (softmax(s / T) − q) / n.

    Example:
        >>> s, q = torch.tensor([[2.0, 0.0]], requires_grad=True), torch.tensor([[0.5, 0.5]])
        >>> loss_of(False, 2.0)(s, torch.cat([q, q, torch.zeros(1, 1)], 1)).backward()
        >>> torch.allclose(s.grad, 2 * ((s / 2).softmax(-1) - q))
        True
    """

    def parts(outputs: Tensor, soft: Tensor, hard: Tensor) -> tuple[Tensor, Tensor]:
        if regression:
            return 0.5 * (outputs - soft).square().sum(-1), 0.5 * (outputs - hard).square().sum(-1)
        softened = -(soft * (outputs / temperature).log_softmax(-1)).sum(-1)
        return temperature**2 * softened, -(hard * outputs.log_softmax(-1)).sum(-1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        soft, hard, weight = _unpacked(targets)
        from_teacher, from_labels = parts(outputs, soft, hard)
        return ((1 - weight) * from_teacher + weight * from_labels).mean()

    return loss


class Lessons(NamedTuple):
    """All examples as the student takes them ``[n, …]``, those without labels first, their targets, and how
    many have no labels."""

    x: Tensor
    targets: Tensor
    unlabelled: int


class Student(nn.Module):
    """Outputs ``[n, C]`` of a network and a head, whose state is trained too."""

    def __init__(self, body: nn.Module, head: Head, state: Tensor) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.state = nn.Parameter(state)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of ``x [n, …]``."""
        return self.head.logits(self.state, plain_call(self.body, x))


def _settings(given: dict[str, Any]) -> Distillation:
    check_names(given, [setting.name for setting in fields(Distillation)], "distil has no setting")
    return Distillation(**given)


def _check_teacher(task: Any, average: bool) -> None:
    if not isinstance(task, FittedTask):
        raise AdaptError(
            f"task is a {type(task).__name__}, which teaches nothing: pass what adapter.fit gave"
        )
    if is_transductive(task.adapter.head):
        raise AdaptError(
            f"the teacher's head {type(task.adapter.head).__name__} predicts examples together, which a "
            "student that sees one cannot learn: fit with another, such as heads.Logistic()"
        )
    if task.adapter.loss.regression and average:
        raise AdaptError("average is of probabilities, but this task is a regression: leave it out")
    if torch.is_inference_mode_enabled():
        raise AdaptError("distil trains by gradients: call it outside torch.inference_mode()")


def _pupil(student: nn.Module | str, head: Head | None, regression: bool) -> FewShotAdapter:
    """The adapter that the result is of, before anything was taught."""
    if not isinstance(student, nn.Module | str):
        raise AdaptError(f"student is a {type(student).__name__}: pass an nn.Module, or a backbone's name")
    chosen: Any = head if head is not None else Ridge(scale=1.0) if regression else Logistic()
    parts = {"head": chosen, "support_head": chosen} if regression else {"head": chosen}
    pupil = FewShotAdapter.of(student, full, regression=regression, **parts)
    if is_transductive(chosen) or state_shape(chosen, 5, 3) not in ((6, 3), (0,)):
        raise AdaptError(
            f"head {type(chosen).__name__} is no linear map of features, which can be taught: use "
            "heads.Logistic(), heads.Ridge() or heads.Direct()"
        )
    return pupil


def _lessons(
    task: FittedTask,
    pupil: FewShotAdapter,
    unlabelled: Examples,
    x: Examples | None,
    y: Labels | None,
    average: bool,
    chosen: Distillation,
) -> Lessons:
    soft = taught(task, unlabelled, average, chosen.temperature)
    if len(soft) < FEWEST:
        many = f"{len(soft)} example{'s' * (len(soft) != 1)}"
        raise AdaptError(
            f"unlabelled holds {many}: at least {FEWEST} are needed, one to learn from and one to hold out"
        )
    if x is None and y is None:
        return Lessons(_taken(pupil, unlabelled), _packed(soft, torch.zeros_like(soft), 0.0), len(soft))
    if x is None:
        raise AdaptError("y holds labels, but there are no examples x that they are of")
    x, y = paired(x, y)
    if y is None:
        raise AdaptError("x holds examples without labels y: pass them as unlabelled")
    also = taught(task, x, average, chosen.temperature)
    hard = _known(task, y, also)
    targets = [_packed(soft, torch.zeros_like(soft), 0.0), _packed(also, hard, chosen.label_weight)]
    if tokeniser(pupil.backbone) is not None and holds_texts(x) and holds_texts(unlabelled):
        texts: Any = (unlabelled, x)  # read together, or their lengths would differ
        return Lessons(_taken(pupil, [*chain(*texts)]), torch.cat(targets), len(soft))
    return Lessons(torch.cat([_taken(pupil, it) for it in (unlabelled, x)]), torch.cat(targets), len(soft))


def _known(task: FittedTask, y: Labels, like: Tensor) -> Tensor:
    """Rows for the labels or values of ``y``, shaped as ``like [n, C]``."""
    if not task.adapter.loss.regression:
        why = "the student learns the classes of its teacher"
        places = no_other(y, len(like), task.classes_, why)
        return one_hot(torch.from_numpy(np.asarray(places)).to(like.device), like.shape[1], like.dtype)
    values = as_targets(y, len(like), like, task.adapter.loss)[1]
    if values.shape != like.shape:
        raise AdaptError(f"y has rows of {values.shape[1]} values, but the teacher gives {like.shape[1]}")
    return values


def _taken(pupil: FewShotAdapter, x: Examples) -> Tensor:
    """``x`` as the student takes it."""
    try:
        return pupil.examples(x)
    except AdaptError:
        raise
    except Exception as error:  # whatever a network says of examples that are not for it
        name = pupil.backbone_name or type(pupil.backbone).__name__
        raise AdaptError(f"student {name} cannot take the examples: {first_line(error)}") from error


def _packed(soft: Tensor, hard: Tensor, weight: float) -> Tensor:
    return torch.cat([soft, hard, soft.new_full((len(soft), 1), weight)], 1)


def _unpacked(targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width = targets.shape[1] // 2
    return targets[:, :width], targets[:, width : 2 * width], targets[:, -1]


def _started(pupil: FewShotAdapter, x: Tensor, targets: Tensor, chosen: Distillation) -> Student:
    """The student's own weights and a head that fits what it is taught, scaled to its temperature."""
    body, head = trainable_copy(pupil.backbone), pupil.head
    soft, hard, weight = _unpacked(targets)
    wanted = soft + weight[:, None] * (hard - soft)
    with torch.no_grad():
        features = torch.cat([plain_call(body, part) for part in x.split(ROWS)])
        state = head.fit(features, wanted.to(features.dtype))
        check_outputs(head.logits(state, features[:1]), wanted[:1])
    softened = 1.0 if pupil.loss.regression else chosen.temperature
    return Student(trained(body), head, softened * state)


def _trained(
    network: Student,
    lessons: Lessons,
    rows: Tensor,
    held: Tensor,
    loss: Loss,
    chosen: Distillation,
    generator: torch.Generator,
    report: Callable[[int, float], None],
) -> tuple[list[float], int]:
    """Train ``network`` on ``rows``; it ends as it was when the loss on ``held`` was least. Those losses, and
    after which epoch."""
    x, targets = lessons.x[held], lessons.targets[held]
    losses: list[float] = []
    best: dict[str, Tensor] = {}

    def look(predict: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad():
            outputs = torch.cat([predict(part) for part in x.split(ROWS)])
            found = float(loss(outputs, targets))
        losses.append(found if found == found else float("inf"))
        report(len(losses) - 1, losses[-1])
        if losses[-1] < min(losses[:-1], default=float("inf")) or not best:
            best.update({name: value.detach().clone() for name, value in network.named_parameters()})

    look(network.eval())
    each = max(len(rows) // chosen.batch, 1)
    training = Training(chosen.epochs, chosen.batch, chosen.weight_decay, each)
    groups = [{"params": [it for it in network.parameters() if it.requires_grad], "lr": chosen.lr}]
    devices = [x.device] if x.is_cuda else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):  # dropout takes no generator
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        train(network, groups, lessons.x[rows], lessons.targets[rows], training, generator, look, loss)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(best[name])
    return losses, losses.index(min(losses))
