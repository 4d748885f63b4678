"""`fit` and `predict` take what people have, scaled as the backbone was trained, or say what is wrong."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import adapt
from adapt import AdaptError, FewShotAdapter
from adapt.adapter import layered_state
from adapt.backbones import Images, info_of, load_backbone, own, save_backbone
from adapt.heads import Direct, KernelRidge, Ridge
from adapt.inner import SquaredError
from adapt.spaces import bias

BYTES = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
X = BYTES.float() / 255
Y = ["cat", "dog"] * 4


@pytest.fixture(scope="module")
def shipped() -> FewShotAdapter:
    return adapt.load("conv4_glyphs_film")


@pytest.fixture(scope="module")
def photographs() -> FewShotAdapter:
    """A backbone that scales pictures of any size and normalises them itself."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))
    images = Images(network, size=16, mean=(0.5, 0.4, 0.3), std=(0.2,)).eval().requires_grad_(False)
    space = bias(images)
    return FewShotAdapter(images, space, layered_state(space, 2))


class Pairs(Dataset[Any]):
    """Items (x, y), not tensors."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return (self.x[index], self.y[index]) if self.y is not None else self.x[index]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(zip(X, Y, strict=True))


PICTURES = [Image.fromarray(image[0].numpy()) for image in BYTES]
KINDS: dict[str, Any] = {
    "bytes": BYTES,
    "array of bytes": BYTES.numpy(),
    "bytes, channels last": BYTES.permute(0, 2, 3, 1).numpy(),
    "channels last": X.permute(0, 2, 3, 1),
    "list of tensors": [*X],
    "list of arrays of bytes": [*BYTES.numpy()],
    "tuple": tuple(X),
    "array of objects": np.array([*X.numpy(), None], object)[:-1],
    "pictures": PICTURES,
    "colour pictures": [picture.convert("RGB") for picture in PICTURES],
    "float64": X.double(),
    "long double": X.numpy().astype(np.longdouble),
    "sparse": X.to_sparse(),
    "with a gradient": X.clone().requires_grad_(),
    "nest of lists": X.tolist(),
    "data set": Pairs(X, None),
    "data set of pictures": Pairs(PICTURES, None),
    "loader": DataLoader(TensorDataset(X), batch_size=3),
    "loader of pictures": DataLoader(Pairs(PICTURES, None), batch_size=3, collate_fn=list),
}


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS.keys())
def test_the_same_pictures_give_the_same_task(shipped: FewShotAdapter, x: Any) -> None:
    expected = shipped.fit(X, Y)
    task = shipped.fit(x, Y)
    assert torch.equal(task.logits(X), expected.logits(X))
    assert torch.equal(expected.logits(x), expected.logits(X))
    assert expected.score(x, Y) == expected.score(X, Y)


PAIRED: dict[str, Any] = {
    "data set": TensorDataset(X, torch.tensor([0, 1] * 4)),
    "data set of strings": Pairs(X, Y),
    "data set of pictures": Pairs(PICTURES, Y),
    "loader": DataLoader(TensorDataset(X, torch.tensor([0, 1] * 4)), batch_size=3),
    "loader of strings": DataLoader(Pairs(X, Y), batch_size=3),
    "loader that does not batch": DataLoader(Pairs(X, Y), batch_size=None),
    "stream": Stream(),
    "loader of a stream": DataLoader(Stream(), batch_size=3),
    "shuffled loader": DataLoader(Pairs(X, Y), batch_size=3, shuffle=True),
    "more than pairs": DataLoader(TensorDataset(X, torch.tensor([0, 1] * 4), torch.arange(8)), batch_size=3),
}


@pytest.mark.parametrize("pairs", PAIRED.values(), ids=PAIRED.keys())
def test_what_brings_labels_needs_no_others(shipped: FewShotAdapter, pairs: Any) -> None:
    expected, task = shipped.fit(X, Y), shipped.fit(pairs)
    assert len(task.classes_) == 2
    assert torch.allclose(task.logits(X), expected.logits(X), atol=1e-4)
    assert task.score(pairs) == expected.score(X, Y)


def test_labels_and_loaders_that_do_not_fit_are_named(shipped: FewShotAdapter) -> None:
    task = shipped.fit(X, Y)
    shuffled = DataLoader(Pairs(X, None), shuffle=True)
    for use, message in (
        (lambda: shipped.fit(Pairs(X, Y), Y), "x is a Pairs that brings labels, and there is a y as well"),
        (lambda: shipped.fit(Pairs(X, None)), "x is a Pairs without labels: let it give"),
        (lambda: shipped.fit(X), r"y has shape \(\)"),
        (lambda: shipped.fit(shuffled, Y), "in no known order, .* use shuffle=False"),
        (lambda: task.predict(shuffled), "in no known order"),
        (lambda: task.predict(Pairs([{"a": 1}], None)), r"dicts with the keys a: .*pairs \(x, y\)"),
        (lambda: shipped.fit(PICTURES[0], Y), r"x is one picture: pass a list of them, \[x\]"),
        (lambda: shipped.fit([*PICTURES[:2], None], Y[:3]), r"x mixes pictures with a NoneType, at x\[2\]"),
        (lambda: shipped.fit([X[0], X[1, :, 4:]], Y[:2]), r"x\[0\] has shape .* and x\[1\] has .*one shape"),
    ):  # fmt: skip
        with pytest.raises(AdaptError, match=message):
            use()


def test_pictures_of_other_sizes_are_scaled_to_a_size_that_is_fixed(shipped: FewShotAdapter) -> None:
    task = shipped.fit(X, Y)
    blocks = np.kron(BYTES[0, 0].numpy(), np.ones((2, 3), np.uint8))
    found = shipped.examples([Image.fromarray(blocks), PICTURES[1]])
    assert torch.equal(found, X[:2])
    assert len(task.predict([Image.fromarray(blocks)])) == 1


def test_pictures_of_different_sizes_are_scaled_by_the_backbone(photographs: FewShotAdapter) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (side, 20, 3), dtype=np.uint8) for side in (16, 24, 40, 12)]
    pictures = [Image.fromarray(array) for array in arrays]
    alone = torch.cat([photographs.backbone(photographs.examples([picture])) for picture in pictures])
    for x in (pictures, arrays, [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]):
        together = photographs.backbone(photographs.examples(x))
        assert torch.allclose(together, alone, atol=1e-5)
    grey = [pictures[0].convert("L"), pictures[1]]
    assert photographs.examples(grey).shape == (2, 3, 16, 16)


def test_every_shipped_and_named_backbone_says_its_range(photographs: FewShotAdapter) -> None:
    for name in ("conv4_glyphs", "conv4_omniglot", "conv4_cifar_fs", "conv4_cifar100"):
        assert load_backbone(name)[1].value_range == (0.0, 1.0)
    assert Images.value_range == (0.0, 1.0)
    network, info = own(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), value_range=[-1, 1])
    assert info.value_range == (-1, 1) and info_of(network) is info
    for wrong in ([1, 0], [0], [0, 1, 2], [0, float("nan")], ["0", "1"], 1):
        with pytest.raises(AdaptError, match="value_range"):
            own(nn.Linear(2, 2), value_range=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (255 * X, "x holds values from 0 to 255, but .* from 0 to 1: pass bytes as uint8 .* or divide them"),
        (BYTES.long(), "from 0 to 255, .*pass bytes as uint8"),
        (2 * X - 1, "from -1 to 1, .*undo their normalisation, which the backbone does itself"),
        ((X - 0.45) / 0.225, "undo their normalisation"),
        (X + 0.5, "from 0.5 to 1.5"),
        (-X, "from -1 to -?0, but"),
    ],
    ids=["bytes as floats", "bytes as int64", "-1 … 1", "normalised", "brighter", "negative"],
)
def test_values_outside_the_trained_range_are_refused(
    shipped: FewShotAdapter, photographs: FewShotAdapter, x: Tensor, message: str
) -> None:
    for adapter in (shipped, photographs):
        task = adapter.fit(X, Y)
        for use in (lambda a=adapter: a.fit(x, Y), lambda t=task: t.predict(x)):
            with pytest.raises(AdaptError, match=message):
                use()


def test_a_little_overshoot_is_no_other_range(shipped: FewShotAdapter) -> None:
    assert shipped.fit(1.1 * X - 0.05, Y).z.shape == shipped.state.origin.new_zeros(shipped.state.k).shape
    assert shipped.examples(X > 0.5).unique().tolist() == [0, 1]


def test_bytes_are_scaled_to_whatever_range_was_trained() -> None:
    network, _ = own(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), value_range=(-1, 1))
    space = bias(network)
    adapter = FewShotAdapter(network, space, layered_state(space, 1), input_shape=(1, 4, 4))
    x = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4) * 8
    assert torch.allclose(adapter.examples(x), x.float() / 127.5 - 1, atol=1e-6)
    with pytest.raises(AdaptError, match=r"from 0 to 248, but .* values from -1 to 1"):
        adapter.examples(x.float())


# ------------------------------------------------------------------------------------------------ nothing

NONE: dict[str, Any] = {
    "list": [],
    "tensor": X[:0],
    "array": np.empty((0, 1, 32, 32), np.uint8),
    "shapeless": np.empty(0),
    "data set": TensorDataset(X[:0]),
    "loader": DataLoader(TensorDataset(X[:0])),
}


@pytest.mark.parametrize("x", NONE.values(), ids=NONE.keys())
def test_of_nothing_there_is_nothing(shipped: FewShotAdapter, x: Any) -> None:
    task = shipped.fit(X, Y)
    assert task.predict(x).shape == (0,) and task.predict(x).dtype == task.classes_.dtype
    assert task.predict_proba(x).shape == (0, 2) and task.predict_proba(x).dtype == np.float32
    assert task.logits(x).shape == (0, 2) and task.logits(x).dtype == task.logits(X).dtype
    with pytest.raises(AdaptError, match="x holds no examples: of none there is no score"):
        task.score(x, [])
    with pytest.raises(AdaptError, match="x holds no examples"):
        shipped.fit(x, [])


@pytest.mark.parametrize(
    "head", [Ridge(scale=1), KernelRidge(scale=1), Direct()], ids=lambda head: type(head).__name__
)
def test_of_nothing_no_values_are_predicted(head: Any, tmp_path: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3)).requires_grad_(False)
    space = bias(network)
    adapter = FewShotAdapter(
        network, space, layered_state(space, 1), head=head, support_head=Direct(), loss=SquaredError()
    )
    task = adapter.fit(torch.rand(6, 2), torch.rand(6, 3))
    task.save_pretrained(tmp_path)
    for found in (task, adapt.load(tmp_path, backbone=network)):
        assert found.predict([]).shape == (0, 3)
        assert found.predict(np.empty((0, 2))).dtype == found.predict(torch.rand(1, 2)).dtype
        assert found.predict(torch.rand(2, 2)).shape == (2, 3)


def test_a_saved_backbone_keeps_its_range(tmp_path: Any) -> None:
    network, info = load_backbone("conv4_glyphs")
    arguments: dict[str, Any] = {"architecture": "conv4", "arguments": info.arguments, "training": {}}
    for limits in ((-1.0, 1.0), None):
        folder = tmp_path / f"{limits}"
        save_backbone(folder, network, input_shape=(1, 32, 32), value_range=limits, **arguments)
        assert load_backbone(folder)[1].value_range == limits
    described = json.loads((folder / "backbone.json").read_text())
    del described["value_range"]  # as earlier versions wrote it
    (folder / "backbone.json").write_text(json.dumps(described))
    assert load_backbone(folder)[1].value_range is None
    (folder / "backbone.json").write_text(json.dumps(described | {"value_range": [1]}))
    with pytest.raises(AdaptError, match="does not describe a known backbone"):
        load_backbone(folder)


def test_tasks_of_earlier_versions_load_and_predict_nothing_of_nothing(
    shipped: FewShotAdapter, tmp_path: Any
) -> None:
    """They did not say how many outputs they have."""
    task = shipped.fit(X, Y)
    task.save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["outputs"]
    path.write_text(json.dumps(config))
    loaded = adapt.load(tmp_path)
    assert torch.equal(loaded.logits(X), task.logits(X)) and loaded.score(X, Y) == task.score(X, Y)
    assert loaded.predict_proba([]).shape == (0, 2)
