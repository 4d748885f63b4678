"""Folders of pictures, as somebody new has them, fitted by ``adapt.own_data.fit_data`` with a start and
without."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from adapt.own_data import fit_data
from adapt.own_data.networks import NETWORKS
from bench.vision import SPLITS, source
from tasks import Distribution, Episode

__all__ = ["HOW", "scores"]

HOW = ("as it is", "with a start")


def scores(data: str, ways: int, shots: int, queries: int, index: int) -> dict[str, float]:
    """Of a folder with the pictures of a task of test classes: how often each fit is right on the queries."""
    episode = Distribution(source(data), ways, shots, queries, *SPLITS[data][2]).episode(index)
    with tempfile.TemporaryDirectory() as folder:
        train, test = (Path(folder) / name for name in ("train", "test"))
        write(episode, train, test)
        found = {}
        for how in HOW:
            with starts(how == HOW[1]):
                found[how] = fit_data(train, test=test, method="head").about["score"]["value"]
    return found


def write(episode: Episode, train: Path, test: Path) -> None:
    """As PNG files, a folder for each class."""
    for folder, x, y in ((train, *episode[:2]), (test, *episode[2:4])):
        for number, (image, label) in enumerate(zip(x.numpy(), y.tolist(), strict=True)):
            path = folder / f"class {label}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.round(255 * image.transpose(1, 2, 0)).astype(np.uint8)
            Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(path)


@contextmanager
def starts(wanted: bool) -> Iterator[None]:
    """With the starts of networks for pictures, or without."""
    kept: Mapping[str, tuple] = dict(NETWORKS)  # type: ignore[type-arg]
    if not wanted:
        NETWORKS["pictures"] = tuple(replace(recipe, start="") for recipe in kept["pictures"])
    try:
        yield
    finally:
        NETWORKS.update(kept)
