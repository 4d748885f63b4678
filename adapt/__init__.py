"""Adaptive Behavior: few-shot adaptation of pretrained backbones with forward gradients only.

    >>> import adapt
    >>> adapter = adapt.load("conv4_glyphs_film")      # a shipped adapter, or a folder
    >>> task = adapter.fit(x, y)                        # a few labelled examples   # doctest: +SKIP
    >>> task.predict_proba(x_new)                       # doctest: +SKIP

Importing needs torch, numpy and safetensors only; Hydra, MLflow and the rest are imported where they are
used.
"""

from adapt import own as _own  # noqa: F401  # isort: skip: first, or what follows finds another `tasks`

import os as _os
from typing import Any as _Any

from torch import nn as _nn

from adapt.adapter import FewShotAdapter, FittedTask
from adapt.adapter import load as _load
from adapt.errors import AdaptError
from adapt.version import __version__

__all__ = [
    "AdaptError",
    "FewShotAdapter",
    "FittedTask",
    "__version__",
    "distil",
    "fit_folder",
    "fit_table",
    "fit_texts",
    "load",
    "meta_train",
]


def load(folder: "str | _os.PathLike[str]", backbone: _nn.Module | None = None) -> _Any:
    """Read an adapter or a fitted task.

    Args:
        folder: a path, the name of a shipped adapter such as ``"conv4_glyphs_film"``, or, with mlflow
            installed, a model in MLflow: ``"models:/digits@champion"``, ``"models:/digits/3"`` or
            ``"runs:/RUN_ID/model"``. MLflow is asked where ``MLFLOW_TRACKING_URI`` says, else in
            ``mlflow.db`` in the working directory.
        backbone: the network it belongs to; needed only if it was not one of ours. Its weights are verified.

    Returns:
        :class:`FewShotAdapter` or :class:`FittedTask`, whichever was saved.

    Raises:
        AdaptError: missing or damaged files, an unknown format, a backbone with other weights, or a model
            that MLflow does not have.

    Example:
        >>> load("conv4_glyphs_film").input_shape
        (1, 32, 32)
    """
    if isinstance(folder, str) and folder.startswith(("models:/", "runs:/")):
        from adapt.tracking.registry import load_model

        return load_model(folder, backbone)
    return _load(folder, backbone)


def fit_folder(folder: "str | _os.PathLike[str]", **settings: _Any) -> _Any:
    """Learn from pictures in one folder per class: see :func:`adapt.own_data.fit_data`.

    Returns:
        :class:`adapt.own_data.Answer`: predicts for new pictures, and is saved with a page on the fit.

    Raises:
        AdaptError: data or settings that cannot be used.
    """
    from adapt import own_data

    return own_data.fit_folder(folder, **settings)


def fit_texts(
    file: "str | _os.PathLike[str]", text: str | None = None, target: str | None = None, **settings: _Any
) -> _Any:
    """Learn from a file with a column of texts and one of labels: see :func:`adapt.own_data.fit_data`.

    Returns:
        :class:`adapt.own_data.Answer`.

    Raises:
        AdaptError: data or settings that cannot be used.
    """
    from adapt import own_data

    return own_data.fit_texts(file, text, target, **settings)


def fit_table(file: "str | _os.PathLike[str]", target: str | None = None, **settings: _Any) -> _Any:
    """Learn from a table, one column of which (``target``) is to be predicted: see
    :func:`adapt.own_data.fit_data`.

    Returns:
        :class:`adapt.own_data.Answer`.

    Raises:
        AdaptError: data or settings that cannot be used.
    """
    from adapt import own_data

    return own_data.fit_table(file, target, **settings)


def meta_train(
    adapter: FewShotAdapter, tasks: _Any, validation: _Any = None, **settings: _Any
) -> FewShotAdapter:
    """Learn from many tasks how to adapt to a new one.

    Args:
        adapter: see :meth:`FewShotAdapter.of`; it stays as it is.
        tasks: a list of pairs (x, y), one for each task, or a distribution of tasks (`tasks.Distribution`).
        validation: of the same kind; None: a part of ``tasks`` is held back.
        settings: ``seed``, ``progress``, ``report``, and those of :class:`adapt.meta.MetaTraining`, such as
            ``steps``.

    Returns:
        An adapter with the state that did best in validation.

    Raises:
        AdaptError: tasks or settings that cannot be used.
    """
    from adapt.meta.trained import trained

    return trained(adapter, tasks, validation, **settings)


def distil(
    task: FittedTask,
    student: _nn.Module | str,
    unlabelled: _Any,
    x: _Any = None,
    y: _Any = None,
    **settings: _Any,
) -> FittedTask:
    """Teach a smaller network what ``task`` predicts, on examples without labels: offline, and by
    backpropagation; see :func:`adapt.baselines.distilled.distilled`.

    Args:
        task: the teacher.
        student: an ``nn.Module``, which stays as it is, or the name of a backbone.
        unlabelled: examples like those that are to be predicted.
        x, y: examples with labels, too, if there are any.
        settings: ``average``, ``head``, ``seed``, ``report``, and those of
            :class:`adapt.baselines.distilled.Distillation`, such as ``epochs`` and ``temperature``.

    Returns:
        The student as a :class:`FittedTask` with the teacher's labels.

    Raises:
        AdaptError: a teacher, a student, examples or settings that cannot be used.
    """
    from adapt.baselines.distilled import distilled

    return distilled(task, student, unlabelled, x, y, **settings)
