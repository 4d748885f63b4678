"""A task that has been adapted to: predicts for new examples, with scikit-learn's habits."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from adapt.adapter.conditions import under_conditions
from adapt.adapter.export import Format, check_target, exported
from adapt.adapter.inputs import Examples, Labels, as_positions, as_targets
from adapt.adapter.known import moved_known, moved_watch
from adapt.adapter.labelling import left_out, suggested
from adapt.adapter.loaders import paired
from adapt.adapter.matching import Matching
from adapt.adapter.moved import Target, moved
from adapt.adapter.online import LEVEL, OnChange, Surprise, surprise_of, updated
from adapt.adapter.outputs import Outputs
from adapt.adapter.r_squared import r_squared
from adapt.adapter.source import Source, source_of
from adapt.adapter.storage import save_task
from adapt.checks import between, check_setting
from adapt.errors import AdaptError
from adapt.inner import SemiSupervised, Solver
from adapt.precision import outside_autocast

__all__ = ["FittedTask"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedTask(Outputs):
    """The result of :meth:`FewShotAdapter.fit`.

    Attributes:
        adapter: it came from.
        parameters: adapted tensors of the backbone, by name.
        head_state: of ``adapter.head``.
        classes_: the caller's labels ``[C]``, sorted; the order of the columns of :meth:`predict_proba`.
            Empty in regression.
        z: where the solver arrived ``[k]``.
        trace: the support loss on the way, and the cost.
        outputs: numbers that are predicted of an example, C.
        posterior: what the support set says of z (:mod:`adapt.inner.posterior`); None where the solver has no
            curvature, or nothing was adapted.
        memory: the examples, linearised, where ``fit`` was told to keep them; saved with the task.
        watch: what :meth:`partial_fit` notices a change by; not saved.
    """

    @overload
    def predict(
        self,
        x: Examples,
        *,
        return_std: Literal[False] = False,
        reject: float = 0.0,
        batch_size: int | None = None,
    ) -> np.ndarray: ...
    @overload
    def predict(
        self, x: Examples, *, return_std: Literal[True], batch_size: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
    def predict(
        self, x: Examples, *, return_std: bool = False, reject: float = 0.0, batch_size: int | None = None
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The most probable label of each example, ``[m]``; in regression its values ``[m, C]``, with
        ``return_std`` also the standard deviation of an observation ``[m, C]``, from (1 + k) passes.

        Args:
            reject: of classes: the share of examples of the task's classes that may be taken for none of
                them. With it labels are a masked array, masked where :meth:`belongs` is no greater.

        Raises:
            AdaptError: ``return_std`` of classes, or of a task without a posterior; ``reject`` as
                :meth:`belongs`.
        """
        reject = check_setting("reject", reject, between(0, 1, "a share of the examples"))
        if return_std and not self.adapter.loss.regression:
            raise AdaptError("classes have no standard deviation: use predictive(x), or predict_proba")
        if reject:
            chances, outputs = self._fits(x, "distance", batch_size)
            return np.ma.masked_array(self.labelled(outputs), chances <= reject)
        if return_std:
            found = self.predictive(x, batch_size=batch_size)
            return found.mean, found.std
        return self.labelled(self.logits(x, batch_size=batch_size))

    def score(self, x: Examples, y: Labels | None = None, *, batch_size: int | None = None) -> float:
        """Accuracy (0 … 1) on examples ``x`` with true labels ``y``; in regression R², the share of the
        variance of ``y`` that is explained (1 is perfect, 0 as good as the mean; of a constant ``y``, which
        has none, 1 if it is predicted, else 0). A label that is no class of the task counts as wrong.

        Raises:
            AdaptError: no examples, a number of labels other than theirs, labels of another kind than in
                ``fit``, or none that is a class.
        """
        x, y = paired(x, y)
        outputs = self.logits(x, batch_size=batch_size)
        if not len(outputs):
            raise AdaptError("x holds no examples: of none there is no score")
        if not self.adapter.loss.regression:
            truth = as_positions(y, len(outputs), self.classes_)
            return float((outputs.argmax(-1).cpu().numpy() == truth).mean())
        predicted = outputs.cpu().numpy()
        truth = as_targets(y, len(predicted), torch.as_tensor(predicted), self.adapter.loss)[1].numpy()
        if truth.shape != predicted.shape:
            raise AdaptError(
                f"y has shape {truth.shape} but x has {len(predicted)} examples: pass one label per example"
            )
        return r_squared(truth, predicted)

    def surprise(self, x: Examples, y: Labels | None = None) -> Surprise:
        """How little labels ``y`` of further examples ``x [n, …]`` fit what is known of the task: a small
        ``p_value`` says that it is another one by now, or that the network cannot represent it as closely as
        the noise of the adapter's calibration says.

        Raises:
            AdaptError: as :meth:`predictive`, or examples or labels that cannot be used.
        """
        return surprise_of(self, x, y)

    def fit(
        self,
        x: Examples,
        y: Labels | None = None,
        *,
        unlabelled: Examples | None = None,
        source: Examples | Source | None = None,
        match: Matching | None = None,
        solver: Solver | None = None,
        loss: SemiSupervised | None = None,
        checked: bool = True,
    ) -> FittedTask:
        """The same classifier under the conditions of ``x``: another camera, light or person. The head stays
        as it is; z moves so that labels are right, and of examples without labels so that the classifier is
        sure of each and not of one class for all. Where what half of the examples ask for does not help the
        other half, the task stays as it was, and ``trace.choice`` says so. Costs two fits, and three passes.
        The task that comes back keeps no examples and no posterior.

        Args:
            x: four examples or more, ``unlabelled`` ones counted (with fewer, nothing happens). Without
                labels, of all classes about as often as later: what is rare is taken for a mistake.
            y: their labels, of classes of the task, not of all of them perhaps; None: there are none.
            unlabelled: further examples of the same conditions, without labels.
            source: examples like those that the head was fitted to, unlabelled; features then stay where they
                were on these. What is needed of them: :meth:`source`.
            match: how far norms follow the statistics of the examples besides; None: not. Layer and group
                norms have none: their channels follow those of ``source``.
            solver: None: three Gauss–Newton steps; ten of Adam where every number moves by itself.
            loss: the weights of its parts; None: as they are in :class:`adapt.inner.SemiSupervised`.
            checked: whether half of the examples must help the other half; if not, it costs one fit.

        Raises:
            AdaptError: a regression, or examples, labels or settings that cannot be used.

        Example:
            >>> import adapt, torch
            >>> adapter, x = adapt.load("conv4_glyphs_film"), torch.rand(6, 1, 32, 32)
            >>> task = adapter.fit(x, ["a", "b"] * 3)
            >>> darker = task.fit(0.3 * x[:4], ["a", "b"] * 2, unlabelled=0.3 * x[4:])
            >>> darker.classes_.tolist()
            ['a', 'b']
        """
        return under_conditions(self, x, y, unlabelled, source, match, solver, loss, checked)

    def source(self, x: Examples) -> Source:
        """What :meth:`fit` has to know of examples ``x`` like those that the head was fitted to: so much, and
        not the examples, has to be kept for the day when conditions change (``source.save(path)``,
        ``Source.load(path)``)."""
        return source_of(self, x)

    def partial_fit(
        self,
        x: Examples,
        y: Labels | None = None,
        *,
        forget: float = 1.0,
        on_change: OnChange = "ignore",
        level: float = LEVEL,
    ) -> FittedTask:
        """The task after further examples; this one stays as it is. The network runs over the new examples
        only, with a tangent for each direction.

        Without a head of its own (``heads.Direct``) nothing is kept but z and A, ``[k]`` and ``[k, k]`` (Bell
        and Cathey 1993). One that is fitted needs all examples: a task of ``fit(…, keep=True)`` keeps those
        of ``fit``, and of all the newest 1,024 from then on, linearised, and may learn new classes.

        Args:
            x, y: as for :meth:`FewShotAdapter.fit`.
            forget: γ, 0 … 1: what counts on of what was known; 1 forgets nothing. With a head that is fitted,
                the share of the examples of every class that is kept, the newest.
            on_change: ``forget``: go on from what the latest examples say alone once it is clear that the
                task has changed. Values without a head: a rival that starts from the prior when examples are
                surprising takes over if it predicts better (:mod:`adapt.inner.change`), which costs two
                passes while there is one. With a head that is fitted, and for classes: if their
                :meth:`surprise` is below ``level``; of classes that they show none of, what a head knew is
                kept.
            level: p-value, of classes and of heads that are fitted.

        Raises:
            AdaptError: as :meth:`surprise`, or a task that kept no examples and whose head needs them.

        Example:
            >>> import adapt, torch
            >>> task = adapt.load("mlp_sinusoid").fit(torch.tensor([[0.0], [0.5]]), [0.0, 0.5])
            >>> further = task.partial_fit(torch.tensor([[4.0]]), [-0.8])
            >>> bool(further.predictive([[4.0]]).std < task.predictive([[4.0]]).std)
            True
        """
        return updated(self, x, y, forget, on_change, level)

    def suggest(self, pool: Examples, n: int = 1) -> np.ndarray:
        """Which ``n`` rows of ``pool [m, …]`` to label next, the most useful first ``[n]``; no labels are
        needed. Without a head of its own: those whose labels make the outputs for all of the pool most
        certain, each in view of those before it; two passes with a tangent for each direction, (1 + k) each.
        Classes and a head that is fitted: those whose two most probable classes are closest, by one pass;
        such a task needs no posterior.

        Raises:
            AdaptError: as :meth:`predictive`, where a posterior is needed, or more rows than there are.
        """
        return suggested(self, self.logits, pool, n)

    def influence(self) -> np.ndarray:
        """How improbable the label of each support example is to a task that has not seen it ``[n]``: −log p,
        large for labels that are wrong. Closed form, nothing is fitted again. After :meth:`partial_fit`: of
        the examples that are kept, in the order in which they came. The only example of a class looks wrong
        whatever it is.

        Raises:
            AdaptError: a task that was fitted without ``keep=True``; of values, one without a posterior; one
                without a head that has forgotten.
        """
        return left_out(self)

    def to(self, target: Target, dtype: torch.dtype | None = None) -> FittedTask:
        """The same task on another device, in another dtype, or both: see :meth:`FewShotAdapter.to`."""
        adapter = moved(self.adapter, target, dtype)
        like = adapter.state.origin
        own = {name: getattr(self, name) for name in ("parameters", "head_state", "z", "trace", "memory")}
        there = tree_map(lambda it: it.to(like) if isinstance(it, Tensor) else it, own)
        known, watch = moved_known(self.posterior, like), moved_watch(self.watch, like)
        return replace(self, adapter=adapter, posterior=known, watch=watch, **there)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the task to ``folder``; ``adapt.load`` brings it back with identical predictions."""
        save_task(self, folder)

    def export(self, path: str | os.PathLike[str], x: Examples, *, format: Format = "onnx") -> Path:
        """Write the adapted network with its head as one file, which runs without this library: ``onnx`` for
        ONNX Runtime, ``torch.export`` for ``torch.export.load``. It takes any number of examples as tensors,
        those that ``adapter.examples(x)`` makes (of texts: token ids of any length), and gives the outputs of
        :meth:`logits`, in float32; which labels they are of is in its metadata.

        Args:
            path: of the file; written whole, or not at all.
            x: an example or more ``[m, …]``, to follow through the network and to compare the outputs on.

        Raises:
            AdaptError: a network or head that cannot be exported, another format, outputs that differ, or a
                package that is missing (``pip install "adaptive-behavior[edge]"``).

        Example:
            >>> import tempfile, adapt, torch
            >>> x = torch.linspace(-3, 3, 10)[:, None]
            >>> task, folder = adapt.load("mlp_sinusoid").fit(x, x.sin()), tempfile.mkdtemp()
            >>> path = task.export(f"{folder}/sine.pt2", x, format="torch.export")
            >>> program = torch.export.load(path).module()
            >>> torch.allclose(program(x[:3]), task.logits(x[:3]), atol=1e-5)
            True
        """
        target, here = check_target(path, format), self.to("cpu", torch.float32)
        with outside_autocast(here.z.device):
            return exported(here, target, here.adapter.examples(x), here.logits(x), format)
