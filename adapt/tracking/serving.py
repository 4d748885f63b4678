"""An adapter as a model that MLflow can serve: a request brings a support set and queries, and is adapted to.

Imports mlflow, so nothing imports this module before a model is logged, loaded or served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import Schema, TensorSpec

from adapt.adapter import FewShotAdapter, FittedTask, load
from adapt.adapter.record import AdapterRecord
from adapt.backbones import tokeniser
from adapt.errors import AdaptError
from adapt.tracking.requests import chunk_of, guard_server, read_queries, read_request, sparing

__all__ = ["AdapterModel", "example", "signature"]

# MLflow reads the hint of `predict`. From most it makes a signature of its own; from this one it does not.
if TYPE_CHECKING:
    Request = Mapping[str, np.ndarray]
else:
    Request = np.ndarray

_NUMBERS, _TEXT, _ANY = np.dtype(np.float32), np.dtype(str), np.dtype(object)


class AdapterModel(PythonModel):
    """``{"support_x": [n, …], "support_y": [n], "query_x": [m, …]}`` → predictions for the queries.

    Of a fitted task a request holds ``query_x`` only. The answer to a task of classes is ``labels [m]``,
    ``classes [C]`` and ``probabilities [m, C]``, whose columns are in the order of ``classes``; to a
    regression ``values [m, C]``. Nothing is kept between requests.
    """

    task: FittedTask | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Read the adapter and build its backbone.

        Raises:
            AdaptError: a backbone that its name does not describe, or a damaged folder.
        """
        loaded = load(context.artifacts["adapter"])
        self.task = loaded if isinstance(loaded, FittedTask) else None
        self.adapter: AdapterRecord = loaded if self.task is None else loaded.adapter
        guard_server()

    def predict(
        self, context: PythonModelContext | None, model_input: Request, params: dict[str, Any] | None = None
    ) -> dict[str, np.ndarray]:
        """Adapt to the support set of ``model_input``, then predict its queries.

        Raises:
            MlflowException: the request is malformed, larger than is served (:mod:`adapt.tracking.requests`),
                or of no use to the adapter; the server answers 400 and says why.
        """
        regression = self.adapter.loss.regression
        task = self.task
        if task is None:
            support, labels, queries = read_request(model_input, regression)
        else:
            queries = read_queries(model_input)
        try:
            if task is None:
                assert isinstance(self.adapter, FewShotAdapter)
                task = sparing(self.adapter, support).fit(support, labels)
            # A few at a time: what a network computes of an image takes hundreds of times its own memory.
            size = chunk_of(queries)
            ask = task.predict if regression else task.predict_proba
            parts = [ask(queries[start : start + size]) for start in range(0, len(queries), size)]
            chances = np.concatenate(parts) if parts else ask(queries)
            if regression:
                return {"values": chances}
            best = task.classes_[chances.argmax(-1)]
            return {"labels": best, "classes": task.classes_, "probabilities": chances}
        except AdaptError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def signature(model: FewShotAdapter | FittedTask) -> ModelSignature:
    """What a request for ``model`` holds, and what comes back; labels are strings or numbers."""
    adapter = _adapter(model)
    examples = _example_spec(adapter)
    inputs = [TensorSpec(*examples, "query_x")]
    if not isinstance(model, FittedTask):
        inputs = [TensorSpec(*examples, "support_x"), TensorSpec(_ANY, (-1,), "support_y"), *inputs]
    outputs = [
        TensorSpec(_ANY, (-1,), "labels"),
        TensorSpec(_ANY, (-1,), "classes"),
        TensorSpec(_NUMBERS, (-1, -1), "probabilities"),
    ]
    if adapter.loss.regression:
        outputs = [TensorSpec(_NUMBERS, (-1, -1), "values")]
    return ModelSignature(Schema([*inputs]), Schema([*outputs]))


def _adapter(model: FewShotAdapter | FittedTask) -> AdapterRecord:
    return model.adapter if isinstance(model, FittedTask) else model


def _example_spec(adapter: AdapterRecord) -> tuple[np.dtype, tuple[int, ...]]:
    if tokeniser(adapter.backbone) is not None:
        return _TEXT, (-1,)
    if adapter.input_shape is None:  # MLflow takes an array of objects of any shape
        return _ANY, (-1,)
    return _NUMBERS, (-1, *adapter.input_shape)


def example(model: FewShotAdapter | FittedTask) -> dict[str, np.ndarray] | None:
    """A small request that fits :func:`signature`: two classes of two examples, one query. None where the
    shape of an example is not known."""
    made = _example(_adapter(model))
    return {"query_x": made["query_x"]} if made is not None and isinstance(model, FittedTask) else made


def _example(adapter: AdapterRecord) -> dict[str, np.ndarray] | None:
    kind, (_, *shape) = _example_spec(adapter)
    labels = np.array([0.0, 0.5, 1.0, 1.5] if adapter.loss.regression else ["a", "a", "b", "b"], dtype=object)
    if kind == _TEXT:
        texts = np.array(["what a day", "how lovely", "no, thank you", "never again"])
        return {"support_x": texts, "support_y": labels, "query_x": np.array(["wonderful"])}
    if kind == _ANY:
        return None
    # Eighths, so that they are as short in JSON as they are in the array.
    drawn = np.random.default_rng(0).integers(0, 9, (5, *shape)).astype(np.float32) / 8
    return {"support_x": drawn[:4], "support_y": labels, "query_x": drawn[4:]}
