"""The adapter: a frozen backbone, what meta-training learned about moving it, an inner solver and a head."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.adapter.adapting import Adapted, adapt
from adapt.adapter.fitted import FittedTask
from adapt.adapter.inputs import Examples, Labels, as_targets
from adapt.adapter.loaders import paired
from adapt.adapter.made import task_of
from adapt.adapter.many import CHUNK, fit_many, predict_many
from adapt.adapter.matching import matched_state
from adapt.adapter.moved import Target, moved
from adapt.adapter.parts import check_names
from adapt.adapter.private import NOISY, Privacy
from adapt.adapter.problem import features_of
from adapt.adapter.record import AdapterRecord
from adapt.adapter.rival import preferred, rival_of
from adapt.adapter.routing import fit_mixture
from adapt.adapter.storage import read_adapter, read_stored, save_adapter
from adapt.adapter.together import Statistics, solved, statistics_of, whole_classes
from adapt.adapter.trimming import trimmed
from adapt.adapter.uncertainty import posterior_at
from adapt.adapter.untrained import untrained
from adapt.checks import check_setting, least
from adapt.errors import AdaptError
from adapt.inner import Trace
from adapt.precision import outside_autocast
from adapt.spaces import Space

__all__ = ["FewShotAdapter"]


@dataclass(frozen=True, eq=False, repr=False)
class FewShotAdapter(AdapterRecord):
    """Adapts ``backbone`` to a new task, classification or regression, from a few labelled examples.

    Attributes:
        backbone: features ``[n, D]`` of examples ``[n, *input_shape]``; never modified.
        space: what may move.
        state: φ₀, U, λ, as meta-trained; float32 at least, whatever the backbone is.
        solver: finds z on the support set; the default needs no backward pass.
        head: convex model on the adapted features.
        support_head: the head inside the support loss that z is solved for, each example left out.
        loss: of that support loss; it says whether tasks are classification or regression.
        rows: examples that go through the network at a time while solving; fewer take less memory (a tangent
            is as large as what it belongs to), and small networks more time. None = all. A setting of the
            machine: it is not saved.
        input_shape: of one example, checked on every input; None accepts any.
        backbone_name: under which ``adapt.load`` finds the backbone again; None if the caller brings it.
        info: provenance and figures for the model card (free form, JSON).
        calibration: how sure a task may be, learned on validation tasks (:func:`adapt.meta.calibrated`); None
            where nothing was.
        match: how far the norms follow the statistics of a task's examples (:meth:`matched`); None: not.

    Example:
        >>> import adapt, torch
        >>> adapter = adapt.load("conv4_glyphs_film")
        >>> task = adapter.fit(torch.rand(4, 1, 32, 32), ["cat", "dog", "cat", "dog"])
        >>> task.classes_.tolist()
        ['cat', 'dog']
    """

    @classmethod
    def of(
        cls,
        network: nn.Module | str,
        space: Space | Callable[[nn.Module], Space] | None = None,
        *,
        regression: bool = False,
        input_shape: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        **parts: Any,
    ) -> "FewShotAdapter":
        """An adapter of any network, for which nothing was meta-trained: all that it knows is that a task may
        scale what moves in a group of layers. :func:`adapt.meta_train` learns better.

        Args:
            network: maps examples ``[n, …]`` to features ``[n, D]``; or the name of a backbone. A module of
                the caller's is copied, and the copy frozen (:func:`adapt.backbones.own`).
            space: what may move, or a function of the network that says so, such as
                :func:`adapt.spaces.lora`; None: scale and shift of its norms or, if it has none, all weights.
            regression: whether tasks are to predict values.
            input_shape: of one example; None accepts any.
            value_range: the least and the greatest value of examples that the network was trained on; bytes
                are then scaled to it, and values outside refused.
            parts: other attributes of the adapter, such as ``head=``.

        Raises:
            AdaptError: a network, a space or a part that cannot be used.

        Example:
            >>> network = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
            >>> task = FewShotAdapter.of(network).fit(torch.eye(4), [0, 1, 0, 1])
            >>> task.predict(torch.eye(4)).shape
            (4,)
        """
        known = [part.name for part in fields(cls)]
        check_names(parts, known)
        return cls(**{**untrained(network, space, regression, input_shape, value_range), **parts})

    def fit(
        self,
        x: Examples,
        y: Labels | None = None,
        *,
        keep: bool = False,
        trim: bool = False,
        on_step: Callable[[Callable[[], FittedTask]], None] | None = None,
    ) -> FittedTask:
        """Adapt to the task given by its labelled examples.

        The backbone stays at its meta-learned starting point φ₀ (z = 0), and only the head is fitted, where
        the support loss is undefined (classification with a single example of some class: nothing is left of
        the class when it is left out), and where adapting would end at a greater support loss than it began
        with, or at values that are not finite. ``task.trace.choice`` says so.

        Args:
            x: support examples ``[n, *input_shape]``, numbers; n texts where the backbone reads texts; n
                Pillow images, arrays or tensors; or a torch ``Dataset`` or ``DataLoader`` of them. What
                becomes of them: :func:`~adapt.adapter.inputs.as_examples`.
            y: classification: n labels of any kind (strings, numbers), two classes or more. Regression: n
                numbers, or rows of them ``[n, C]``. None: ``x`` gives pairs (x, y).
            keep: keep the examples, linearised at z, which :meth:`FittedTask.influence` and, with a head that
                is fitted, :meth:`FittedTask.partial_fit` need; one more pass of 1 + k.
            trim: adapt once more without the examples that are nearer to the mean of another class than to
                their own's, two of every class at least; ``trace.choice`` says how many. For labels that are
                unreliable: of right ones a few are left out as well. Costs two fits.
            on_step: called after every step of the solver that another one follows, if it is one that goes
                step by step, with a function that makes the task as it would be if it stopped there.

        Raises:
            AdaptError: shapes, values or labels that cannot be used.
        """
        x, y = paired(x, y)
        examples = self.examples(x)
        if trim:
            if on_step is not None:
                raise AdaptError("trim: a task that is fitted twice cannot be watched: leave on_step out")
            return trimmed(self.fit, examples, y, keep)
        if self.state.is_mixture:
            return fit_mixture(self, examples, y, keep=keep, on_step=on_step)
        if self.match is not None:
            return self.matched(examples).fit(examples, y, keep=keep, on_step=on_step)
        classes, targets = as_targets(y, len(examples), self.state.origin, self.loss)

        def task(found: Adapted) -> FittedTask:
            return task_of(self, found, examples, targets, classes, keep)

        show = None
        if on_step is not None:

            def stopped_here(finish: Callable[[], Adapted]) -> FittedTask:
                with torch.no_grad(), outside_autocast(examples.device):
                    return task(finish())

            def show(finish: Callable[[], Adapted]) -> None:
                on_step(lambda: stopped_here(finish))

        with torch.no_grad():  # forward tangents do not need the autograd graph
            features_at = features_of(self.backbone, self.space, self.state, examples, self.rows)
        with torch.no_grad(), outside_autocast(examples.device):  # only the network keeps its autocast
            found = task(adapt(features_at, self.state, self.solver, targets, self.problem, on_step=show))
        rival = rival_of(self)
        return found if rival is None else preferred(found, rival, examples, targets, keep)

    def fit_many(
        self,
        tasks: Iterable[tuple[Examples, Labels | None]],
        *,
        keep: bool = False,
        chunk: int = CHUNK,
    ) -> list[FittedTask]:
        """:meth:`fit` of each of many tasks, in their order; those of one size are adapted together where
        that is faster (:mod:`adapt.adapter.many`). Values are those of :meth:`fit`, up to rounding (which
        Adam makes more of than others).

        Args:
            tasks: pairs of what ``fit`` takes for x and y, or Datasets of pairs.
            keep: as for ``fit``.
            chunk: tasks at once, at most; fewer take less memory.

        Raises:
            AdaptError: as ``fit``, says of which task.

        Example:
            >>> import adapt, torch
            >>> adapter, x = adapt.load("mlp_sinusoid"), torch.linspace(-3, 3, 10)[:, None]
            >>> tasks = adapter.fit_many([(x, (x + shift).sin()) for shift in range(100)])
            >>> len(tasks), len(adapter.predict_many(tasks, [x] * 100))
            (100, 100)
        """
        check_setting("chunk", chunk, least(1, "at least one task at a time"))
        return fit_many(self, tasks, keep, chunk, partial(self.fit, keep=keep))

    @staticmethod
    def predict_many(
        tasks: Iterable[FittedTask], x: Iterable[Examples], *, chunk: int = CHUNK
    ) -> list[np.ndarray]:
        """``task.predict`` of each of many tasks for examples of its own, in their order; those of one size
        and of one adapter, as those of :meth:`fit_many` are, together where that is faster.

        Raises:
            AdaptError: examples that cannot be used; says of which task.
        """
        check_setting("chunk", chunk, least(1, "at least one task at a time"))
        tasks = [*tasks]
        outputs = predict_many(tasks, x, chunk)
        return [task.labelled(logits) for task, logits in zip(tasks, outputs, strict=True)]

    def matched(self, x: Examples) -> "FewShotAdapter":
        """This adapter with the statistics of its norms moved towards those of ``x``, as ``match`` says, and
        the mixing weights as further directions. :meth:`fit` does it with the support set; with more
        examples, which need no labels, the statistics are better known.

        Raises:
            AdaptError: ``match`` is None, or the space moves no frozen batch norm.

        Example:
            >>> import adapt, torch
            >>> adapter = adapt.load("conv4_glyphs_film").replace(match=adapt.adapter.Matching())
            >>> there = adapter.matched(torch.rand(30, 1, 32, 32))
            >>> there.state.k - adapter.state.k, there.match
            (1, None)
        """
        if self.match is None:
            raise AdaptError("match is None: adapter.replace(match=Matching()) says how far norms follow")
        with torch.no_grad():
            state = matched_state(self.match, self.backbone, self.space, self.state, self.examples(x))
        return self.replace(state=state, match=None)

    def statistics(
        self,
        x: Examples,
        y: Labels | None = None,
        *,
        classes: Sequence[Any] | None = None,
        at: Tensor | None = None,
        private: Privacy | None = None,
        generator: torch.Generator | None = None,
    ) -> Statistics:
        """What ``x`` and ``y``, the examples of one of several who adapt together, say of z: k² + k numbers,
        from which :meth:`fit_statistics` adapts to all examples.

        Args:
            x, y: as for :meth:`fit`.
            classes: the labels of all clients, of a classification.
            at: the z ``[k]`` of the task of the round before; None: the start.
            private: how little is told of any single example (:mod:`adapt.adapter.private`); None: no such
                promise.
            generator: of its noise, on the CPU; whoever knows its seed can take the noise off. None: one that
                nobody knows.

        Raises:
            AdaptError: examples or labels that cannot be used, or a head that is fitted to examples.

        Example:
            >>> import adapt, torch
            >>> adapter, x = adapt.load("mlp_sinusoid"), torch.linspace(-3, 3, 10)[:, None]
            >>> sent = [adapter.statistics(part, part.sin()) for part in (x[:4], x[4:])]
            >>> together, alone = adapter.fit_statistics(sent), adapter.fit(x, x.sin())
            >>> torch.allclose(together.z, alone.z, atol=1e-5)
            True
        """
        return statistics_of(self, x, y, classes, at, private, generator)

    def fit_statistics(
        self, statistics: Sequence[Statistics], *, classes: Sequence[Any] | None = None
    ) -> FittedTask:
        """The task after one Gauss–Newton step on the examples of all who sent ``statistics``; for another,
        they take theirs ``at=task.z``. From private ones there is no posterior: of their noise it knows
        nothing.

        Raises:
            AdaptError: none, some of another adapter or round, or that are no sums over examples.
        """
        z, sums = solved(self, statistics)
        labels = whole_classes(self, classes)
        if not self.loss.regression and len(labels) != statistics[0].outputs:
            raise AdaptError(f"classes={classes}: give the {statistics[0].outputs} labels of all clients")
        shape = (sum(part.examples for part in statistics), statistics[0].outputs)
        prior = getattr(self.solver, "damping", 1.0) * self.state.learned.precision
        trace = Trace(sums.value[None].to(z), 1.0 + len(z))
        with outside_autocast(z.device):
            parameters, head_state = self.subspace.parameters(z), z.new_zeros(0)
        solved_for = trace._replace(curvature=sums.curvature, prior=prior)
        step = (z - statistics[0].at.to(z)).to(sums.gradient)
        there = (
            sums.value + sums.gradient @ step + 0.5 * step @ sums.curvature @ step
        )  # of the model: no pass
        known = None
        if any(part.private for part in statistics):  # a posterior would not have their noise in it
            trace = trace._replace(choice=NOISY)
        else:
            known = posterior_at(self, z, solved_for, there.clamp(min=0).to(z), shape)
        return FittedTask(self, parameters, head_state, labels, z, trace, shape[1], known)

    def to(self, target: Target, dtype: torch.dtype | None = None) -> "FewShotAdapter":
        """An adapter that computes on another device, ``to("cuda")``, in another dtype,
        ``to(torch.float64)``, or both; this one and its tasks stay as they are.

        The backbone is copied, unless it is there already: until the original is dropped, both take memory.

        Raises:
            AdaptError: no such device or dtype, or a backbone that cannot be copied.
        """
        return moved(self, target, dtype)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``adapter_config.json``, ``adapter_model-<hash>.safetensors`` and the model card
        ``README.md`` to ``folder``. Whoever reads it meanwhile finds the old artifact or the new one.

        Raises:
            AdaptError: what cannot be saved, or could not be loaded again (NaN in the state).
            OSError: the folder cannot be written; what was there is still there.
        """
        save_adapter(self, folder)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], backbone: nn.Module | None = None
    ) -> "FewShotAdapter":
        """Read an adapter written by :meth:`save_pretrained`; ``backbone`` is needed if it was the caller's
        own."""
        return read_adapter(read_stored(folder), backbone, cls)
