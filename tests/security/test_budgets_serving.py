"""Requests to a served adapter: chunks, limits, and one error of the caller's for whatever is malformed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import SIDE, make_adapter, tiny_conv4

mlflow = pytest.importorskip("mlflow")
from adapt.tracking.model import load_pyfunc  # noqa: E402

load_pyfunc()
from mlflow.exceptions import MlflowException  # noqa: E402

from adapt.tracking import requests  # noqa: E402
from adapt.tracking.serving import AdapterModel  # noqa: E402


class Watched(torch.nn.Module):
    """A network that notes how many examples it is given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.rows = tiny_conv4(), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows = max(self.rows, len(x))
        return self.network(x)


@pytest.fixture(scope="module")
def model() -> AdapterModel:
    served = AdapterModel()
    served.adapter = make_adapter(tiny_conv4())
    return served


def request(support: int = 4, queries: int = 2, classes: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "support_x": rng.random((support, 1, SIDE, SIDE), dtype=np.float32),
        "support_y": np.array([f"c{row % classes}" for row in range(support)], dtype=object),
        "query_x": rng.random((queries, 1, SIDE, SIDE), dtype=np.float32),
    }


def refused(model: AdapterModel, asked: Any, message: str = "") -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        model.predict(None, asked)
    assert caught.value.get_http_status_code() == 400
    assert len(str(caught.value)) < 2000


def test_examples_go_through_the_network_a_few_at_a_time() -> None:
    watched = Watched().eval().requires_grad_(False)
    served, whole = AdapterModel(), make_adapter(watched)
    served.adapter, asked = whole, request(support=150, queries=333)
    answer = served.predict(None, asked)
    assert 0 < watched.rows <= requests.ROWS
    task = whole.fit(asked["support_x"], asked["support_y"].tolist())
    assert np.abs(answer["probabilities"] - task.predict_proba(asked["query_x"])).max() < 1e-5
    assert watched.rows == 333


def test_large_examples_go_through_fewer_at_a_time() -> None:
    assert requests.chunk_of(np.zeros((5, 3, 224, 224), np.float32)) == 6
    assert requests.chunk_of(np.zeros((5, 3, 4096, 4096), np.float32)) == 1
    assert requests.chunk_of(["a text"] * 500) == requests.ROWS


def test_no_queries_have_no_answers(model: AdapterModel) -> None:
    answer = model.predict(None, request(queries=0))
    assert answer["probabilities"].shape == (0, 2) and len(answer["labels"]) == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: request(support=2_001), "support_x has 2,001 examples, and a request has 2,000 at most"),
        (lambda: request(queries=10_001), "query_x has 10,001 examples, and a request has 10,000 at most"),
        (lambda: request(support=2_000, classes=2_000), "support_y has 2,000 classes"),
        (lambda: {**request(), "query_x": np.broadcast_to(np.float32(0), (9_000, 1, 64, 64))}, "numbers"),
        (lambda: {**request(), "query_x": np.array(["x" * 2**20] * 17, dtype=object)}, "characters"),
    ],
)
def test_requests_have_limits(asked: Any, message: str, model: AdapterModel) -> None:
    refused(model, asked(), message)


def test_a_request_without_its_parts_is_refused(model: AdapterModel) -> None:
    for name in request():
        refused(model, {key: value for key, value in request().items() if key != name}, name)
    for odd in (None, 5, "text", [], [request()], {}, np.zeros(3)):
        refused(model, odd, "cannot be read")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["support_x", "support_y", "query_x"]), JSON)
@settings(max_examples=60, deadline=None)
def test_no_json_in_the_place_of_a_part_breaks_it(model: AdapterModel, name: str, value: Any) -> None:
    """As MLflow passes it on where the signature does not refuse it: arrays of objects, or JSON itself."""
    for given_as in (value, np.array([value], dtype=object)):
        try:
            model.predict(None, {**request(), name: given_as})
        except MlflowException as error:
            assert error.get_http_status_code() == 400


class Metadata:
    def get_params_schema(self) -> None:
        return None

    def get_input_schema(self) -> None:
        return None


class Loaded:
    metadata = Metadata()

    def predict(self, data: Any) -> Any:
        pytest.fail("was asked")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[" * 10**5, "application/json"),
        (b'{"inputs": ' + b"[" * 10**5, "application/json"),
        (b"9" * 5000, "application/json"),
        (b" " * (2 << 20), "application/json"),
        (b"{}", None),
        (b"{}", ""),
    ],
    ids=["deep", "deep inside", "digits", "large", "no type", "empty type"],
)
def test_what_the_parser_of_the_server_breaks_on_is_an_error_of_the_caller(
    body: bytes, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.pyfunc import scoring_server

    monkeypatch.setenv("ADAPT_SERVE_MB", "1")
    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)
    requests.guard_server()
    guarded = scoring_server.invocations
    requests.guard_server()
    assert scoring_server.invocations is guarded  # once is enough
    with pytest.raises(MlflowException) as caught:
        scoring_server.invocations(body, kind, Loaded(), None)
    assert caught.value.get_http_status_code() == 400
