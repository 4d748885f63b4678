"""What a request to a served adapter may be: read with one error for what is malformed, and with limits.

Imports mlflow, as :mod:`adapt.tracking.serving` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from mlflow.exceptions import MlflowException

from adapt.adapter import FewShotAdapter
from adapt.budget import served

__all__ = ["Request", "chunk_of", "guard_server", "read_queries", "read_request", "sparing"]

#: Examples to learn from, classes of them, and examples to predict, in one request.
SUPPORT, CLASSES, QUERIES = 2_000, 500, 10_000
#: Numbers in all examples of a request.
NUMBERS = 2**25
#: Characters in all texts of a request.
CHARACTERS = 2**24
#: Bytes of the body of a request, before it is parsed; ``ADAPT_SERVE_MB`` megabytes where that is set.
BODY = 64
#: Numbers of the examples, and examples, that go through the network at once.
AT_ONCE, ROWS = 2**20, 64
SERVER = "mlflow.pyfunc.scoring_server"


class Request(NamedTuple):
    """Examples and labels to learn from, and examples to predict."""

    support_x: Any
    support_y: list[Any]
    query_x: Any


def read_request(given: Any, regression: bool) -> Request:
    """The parts of a request as MLflow passes it on.

    Raises:
        MlflowException: it is malformed or larger than is served; a server answers 400.
    """
    try:
        labels = given["support_y"]
        labels = labels.tolist() if hasattr(labels, "tolist") else [*labels]
        request = Request(_examples(given["support_x"]), labels, _examples(given["query_x"]))
        sizes, kinds = (len(request.support_x), len(request.query_x)), len({repr(label) for label in labels})
    except Exception as error:
        # Whatever JSON, CSV or Parquet make of it: no such key, ragged nests, strings among numbers.
        holds = list(given)[:5] if isinstance(given, Mapping) else type(given).__name__
        raise _refused(
            f"the request cannot be read ({type(error).__name__}: {str(error)[:200]}): it holds {holds}, and "
            "is a mapping of support_x, support_y and query_x, each a list of one item per example"
        ) from None
    for name, found, most in (("support_x", sizes[0], SUPPORT), ("query_x", sizes[1], QUERIES)):
        if found > most:
            raise _refused(f"{name} has {found:,} examples, and a request has {most:,} at most: send several")
    if not regression and kinds > CLASSES:
        raise _refused(f"support_y has {kinds:,} classes, and a request has {CLASSES:,} at most")
    for size, most, what in (
        (sum(map(_numbers, (request.support_x, request.query_x))), NUMBERS, "numbers"),
        (sum(map(_characters, (request.support_x, request.query_x))), CHARACTERS, "characters"),
    ):
        if size > most:
            raise _refused(
                f"the request holds {size:,} {what}, and {most:,} are served at most: send several"
            )
    return request


def read_queries(given: Any) -> Any:
    """The examples of a request to a fitted task, ``{"query_x": […]}``, as MLflow passes it on.

    Raises:
        MlflowException: it is malformed or larger than is served; a server answers 400.
    """
    try:
        queries = _examples(given["query_x"])
    except Exception as error:
        raise _refused(
            f"the request cannot be read ({type(error).__name__}: {str(error)[:200]}): it is a mapping of "
            "query_x to a list of examples"
        ) from None
    for size, most, what in (
        (len(queries), QUERIES, "examples"),
        (_numbers(queries), NUMBERS, "numbers"),
        (_characters(queries), CHARACTERS, "characters"),
    ):
        if size > most:
            raise _refused(
                f"the request holds {size:,} {what}, and {most:,} are served at most: send several"
            )
    return queries


def chunk_of(examples: Any) -> int:
    """How many of ``examples`` go through the network at once."""
    each = _numbers(examples) // max(len(examples), 1)
    return max(1, min(ROWS, AT_ONCE // max(each, 1)))


def sparing(adapter: FewShotAdapter, support: Any) -> FewShotAdapter:
    """``adapter``, which takes large supports a few rows at a time."""
    rows = chunk_of(support)
    return adapter if len(support) <= rows or adapter.rows is not None else adapter.replace(rows=rows)


def guard_server() -> None:
    """Where MLflow's scoring server is loaded: refuse bodies that are too large before they are parsed, and
    answer 400 to those that its parser breaks on (nests without end, numbers of thousands of digits, no
    content type), to which it would answer 500."""
    server = sys.modules.get(SERVER)
    answer = getattr(server, "invocations", None)
    if server is None or answer is None or hasattr(answer, "guarded"):
        return
    server.invocations = _guarded(answer)  # type: ignore[attr-defined]


def _guarded(answer: Callable[..., Any]) -> Callable[..., Any]:
    def invocations(data: Any, content_type: str | None, *others: Any, **more: Any) -> Any:
        most = served(BODY)
        if len(data) > most:
            raise _refused(
                f"the request has {len(data):,} bytes, and {most:,} are served at most: send several"
            )
        if not content_type:
            raise _refused("the request does not say what it is: set Content-Type: application/json")
        try:
            return answer(data, content_type, *others, **more)
        except MlflowException:
            raise
        except (RecursionError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise _refused(
                f"the request cannot be parsed ({type(error).__name__}: {str(error)[:200]})"
            ) from None

    invocations.guarded = True  # type: ignore[attr-defined]
    return invocations


def _examples(values: Any) -> Any:
    """Numbers as an array, texts as a list; a nest of lists came as objects."""
    values = np.asarray(values)
    if values.ndim == 0:
        raise ValueError("one value in the place of a list of examples")
    if values.dtype.kind not in "OU":
        return values
    plain = values.tolist()
    return plain if all(isinstance(value, str) for value in plain) else np.asarray(plain, dtype=np.float32)


def _numbers(examples: Any) -> int:
    return examples.size if isinstance(examples, np.ndarray) else len(examples)


def _characters(examples: Any) -> int:
    return 0 if isinstance(examples, np.ndarray) else sum(map(len, examples))


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)
