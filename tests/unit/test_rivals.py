"""Models on the inputs as they are, the same network from pretrained weights, and what a table changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as Theirs

from adapt import AdaptError
from adapt.adapter import Context, Support
from adapt.app.config import config_folder
from adapt.app.main import main as _  # noqa: F401 (registers the schema)
from adapt.app.stages.session import Parts
from adapt.app.stages.values import for_values
from adapt.baselines import Boosting, FinetuneAll, LinearModel, Retrain
from tests.helpers import make_adapter, tiny_conv4


def context() -> Context:
    network = tiny_conv4()
    return Context(network, make_adapter(network), seed=3)


def rows(n: int, *, classes: bool) -> Support:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    value = 2 * x[:, 0] - x[:, 1]
    if classes:
        return Support(x, (value > 0).long(), ("no", "yes"))
    return Support(x, torch.stack([value, -value], 1), ())


def test_a_linear_model_is_scikit_learns() -> None:
    support = rows(60, classes=True)
    predictor = LinearModel().prepare(context())(support, lambda predictor: None)
    theirs = LogisticRegression(max_iter=1000).fit(support.x.double().numpy(), support.y.numpy())
    found = predictor(support.x).softmax(-1).numpy()
    assert np.allclose(found, theirs.predict_proba(support.x.double().numpy()), atol=1e-6)
    values = rows(60, classes=False)
    predictor = LinearModel(c=2.0).prepare(context())(values, lambda predictor: None)
    ridge = Theirs(alpha=0.5).fit(values.x.double().numpy(), values.y.double().numpy())
    assert np.allclose(predictor(values.x).numpy(), ridge.predict(values.x.double().numpy()), atol=1e-5)


def test_boosting_predicts_classes_and_several_values() -> None:
    support, values = rows(80, classes=True), rows(80, classes=False)
    method = Boosting(trees=30)
    right = method.prepare(context())(support, lambda predictor: None)(support.x).argmax(1) == support.y
    assert right.float().mean() > 0.95
    found = method.prepare(context())(values, lambda predictor: None)(values.x)
    assert found.shape == values.y.shape and (found - values.y).square().mean() < 0.2 * values.y.var()


def test_token_ids_are_no_columns() -> None:
    ids = Support(torch.ones(4, 3, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), ("a", "b"))
    for method in (Boosting(), LinearModel()):
        with pytest.raises(AdaptError, match="reads columns of numbers"):
            method.prepare(context())(ids, lambda predictor: None)


def test_finetune_all_begins_with_the_pretrained_weights() -> None:
    """At a rate that changes nothing the features stay what they are; retraining has others."""
    here = context()
    x = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    support = Support(x, torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"), whole=True)
    seen: list[torch.Tensor] = []

    def watch(predictor: object) -> None:
        seen.append(predictor.args[0][0](x).detach())  # type: ignore[attr-defined]

    FinetuneAll(epochs=1, batch=6, lr=1e-12, watch_every=1).prepare(here)(support, watch)
    assert torch.allclose(seen[0], here.backbone(x), atol=1e-6)
    Retrain(epochs=1, batch=6, watch_every=1).prepare(here)(
        support, watch
    )  # no pool: the support is all there is
    assert not torch.allclose(seen[1], here.backbone(x), atol=1e-2)
    with pytest.raises(AdaptError, match="leave finetune_all out"):
        FinetuneAll().prepare(here)(rows(5, classes=False), watch)


def test_a_table_of_numbers_changes_heads_and_columns_follow_from_the_task() -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", ["experiment=own_table", "task.file=x.csv"])
        other = compose("config", ["experiment=sinusoid"])
    found = for_values(config)
    assert [*found.method] == ["ridge", "forward", "backprop", "linear", "boosting"]
    assert found.method.forward.head._target_ == found.support_head._target_ == "adapt.heads.Ridge"
    assert (found.method.ridge.head.scale, found.head.scale) == (1.0, 1.0)
    assert "logistic" in config.method  # of this run alone
    assert for_values(other) is other
    parts = Parts(config)
    with pytest.raises(AdaptError, match="backbone=columns reads the columns of a table"):
        parts.network  # noqa: B018
