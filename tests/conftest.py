"""Fixtures shared by all tests. One thread: the problems are too small for more."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from torch import nn

from adapt.adapter import FewShotAdapter
from tasks import ArraySource
from tests.helpers import DATA, Untouchable, make_adapter, make_source, tiny_conv4

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# New examples on every run at a developer's desk; the same ones on CI, where a red run must mean a change.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


gc.disable()  # until all is imported


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The folder of public data sets, as the data root; what is decoded from them is kept between runs."""
    if not (DATA / "omniglot").is_dir():
        pytest.skip(f"no public data sets in {DATA}: set ADAPT_DATA")
    monkeypatch.setenv("ADAPT_DATA", str(DATA))
    assert request.config.cache is not None
    monkeypatch.setenv("ADAPT_CACHE", str(request.config.cache.mkdir("decoded")))
    return DATA


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an MLflow store that holds nothing, to be copied: MLflow takes seconds to make one. All
    workers share it."""
    from adapt.tracking import prepare_store

    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "empty store"
    prepare_store(folder)
    return folder


@pytest.fixture(scope="module")
def root(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an MLflow store that the tests of a module share."""
    folder = tmp_path_factory.mktemp("store")
    shutil.copy(empty_store / "mlflow.db", folder)
    return folder


@pytest.fixture
def untouchable() -> Untouchable:
    return Untouchable()


@pytest.fixture
def backbone() -> nn.Module:
    return tiny_conv4()


@pytest.fixture
def adapter(backbone: nn.Module) -> FewShotAdapter:
    return make_adapter(backbone)


@pytest.fixture(scope="session")
def source() -> ArraySource:
    return make_source()


@pytest.fixture
def support(source: ArraySource) -> tuple[torch.Tensor, list[str]]:
    """Nine images of three classes with string labels, not sorted."""
    return source.load(np.array([0, 12, 24, 1, 13, 25, 2, 14, 26])), ["zebra", "ape", "moth"] * 3
