"""Folders of pictures, as somebody new has them, fitted by ``adapt.own_data.fit_data`` with a start and
without."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from adapt.own_data import fit_data
from bench.vision import SPLITS, source
from tasks import Distribution, Episode

__all__ = ["HOW", "scores"]

HOW = ("as it is", "with a start")
#: A network that is named is taken as it is.
BACKBONES = dict(zip(HOW, ("tf_efficientnet_lite0", None), strict=True))


def scores(data: str, ways: int, shots: int, queries: int, index: int) -> dict[str, float]:
    """Of a folder with the pictures of a task of test classes: how often each fit is right on the queries."""
    episode = Distribution(source(data), ways, shots, queries, *SPLITS[data][2]).episode(index)
    with tempfile.TemporaryDirectory() as folder:
        train, test = (Path(folder) / name for name in ("train", "test"))
        write(episode, train, test)
        return {
            how: fit_data(train, test=test, method="head", backbone=name).about["score"]["value"]
            for how, name in BACKBONES.items()
        }


def write(episode: Episode, train: Path, test: Path) -> None:
    """As PNG files, a folder for each class."""
    for folder, x, y in ((train, *episode[:2]), (test, *episode[2:4])):
        for number, (image, label) in enumerate(zip(x.numpy(), y.tolist(), strict=True)):
            path = folder / f"class {label}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8)
            Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)
