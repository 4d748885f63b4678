"""Omniglot: handwritten characters of fifty alphabets, twenty drawings of each."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks import _cache
from tasks.data import DataFile, fetch, remembered_sha256
from tasks.images import _archives, _pictures
from tasks.readers import pictures
from tasks.source import ArraySource, Card, TaskError

__all__ = ["Omniglot"]

OFFICIAL = "https://github.com/brendenlake/omniglot/raw/master/python"
#: The official archive, then the same images packed again.
BACKGROUND = DataFile(
    "omniglot/images_background.zip",
    (
        "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "12f28f39d6d0baaa9b94998e145067e51cc8bdac385d5b3c8994ade9a99f11a2",
    ),
    f"{OFFICIAL}/images_background.zip",
)
EVALUATION = DataFile(
    "omniglot/images_evaluation.zip",
    (
        "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        "7fd4f63de21cc4a4e0abb7d2f4b8d5491637b42651c1817c538392ae00186206",
    ),
    f"{OFFICIAL}/images_evaluation.zip",
)
#: Alphabets of the background set that are for validation. None has a near relative among the other alphabets
#: of that set, as Hebrew has in Aramaic and one Georgian, Japanese or Canadian script has in the other.
VALIDATION = ("Armenian", "Futurama", "Korean", "Tagalog", "Tifinagh")
MEMBER = re.compile(r"images_(?:background|evaluation)/([^/]+/character\d\d)/\d{4}_\d\d\.png")
CHARACTERS = 1_623
TURNS = ("rot000", "rot090", "rot180", "rot270")


class Omniglot(ArraySource):
    """1,623 characters of 50 alphabets, each drawn by 20 people, bright ink on black, [1, size, size].

    Lake, Salakhutdinov, Tenenbaum (2015), *Human-level concept learning through probabilistic program
    induction*. Pixels are in [0, 1].

    Splits are disjoint in alphabets: `test` is the official evaluation set (20 alphabets), `validation` holds
    Armenian, Futurama, Korean, Tagalog and Tifinagh of the background set, `train` the other 25 of it. Papers
    on few-shot learning often use the split of Vinyals et al. (2016) instead, which divides alphabets and is
    not in the official files: accuracies are not comparable with theirs.

    Args:
        size: side of an image in pixels; smaller than the original 105 by the mean over the area.
        rotations: every character turned by 0, 90, 180 and 270 degrees (anticlockwise) as four classes, as in
            Santoro et al. (2016): `Greek/character01/rot090`.
        root: folder of the data sets; None: `$ADAPT_DATA`, else `~/.cache/adapt`.
        download: get the two archives from GitHub if they are not there.

    Raises:
        TaskError: the archives are not there, or are others than they should be; `size` makes no sense.

    Example:
        >>> Omniglot(size=28).shape  # doctest: +SKIP
        (1, 28, 28)
    """

    def __init__(
        self, size: int = 28, rotations: bool = False, root: str | None = None, download: bool = False
    ) -> None:
        _pictures.check_size("omniglot", size)
        folder, drawn = decoded(size, root, download)
        names, images = [str(name) for name in drawn["names"]], drawn["images"]
        rows = np.arange(len(images)).reshape(len(names), -1)
        if rotations:
            folder = folder.with_name(f"{folder.name}-turned")
            images = _cache.memory_mapped(folder, lambda: _turned(images))["images"]

        members: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}, "test": {}}
        for name, part, of_class in zip(names, drawn["parts"], rows, strict=True):
            split = "validation" if name.split("/")[0] in VALIDATION else ("train", "test")[part]
            for turn, label in enumerate(TURNS if rotations else ("",)):
                members[split]["/".join(filter(None, (name, label)))] = of_class + turn * rows.size
        counts = {f"{split} classes": len(classes) for split, classes in members.items()}
        counts = {
            "examples": len(images),
            "classes": sum(counts.values()),
            "alphabets": len({name.split("/")[0] for name in names}),
            **counts,
        }
        super().__init__(card("omniglot", counts, ISSUES + TURNED if rotations else ISSUES), images, members)


def decoded(size: int, root: str | None, download: bool) -> tuple[Path, Mapping[str, np.ndarray]]:
    """What :func:`_read` gives, kept between runs, and the folder that keeps it."""
    image = _pictures.pillow()
    archives = [fetch(file, root=root, download=download) for file in (BACKGROUND, EVALUATION)]
    parts = [remembered_sha256(path) for path in archives]
    code = (_cache.file_sha256(Path(str(file))) for file in (__file__, pictures.__file__))
    key = _cache.key(*parts, image.__version__, *code)
    folder = _cache.cache_folder() / f"omniglot-{size}-{key}"
    return folder, _cache.memory_mapped(folder, lambda: _read(archives, size))


def _read(archives: list[Path], size: int) -> dict[str, np.ndarray]:
    """Every drawing, class by class in the order of the names.

    Returns:
        images: uint8 [n, 1, size, size], ink bright.
        names: alphabet and character of each class; parts: 0 for background, 1 for evaluation.
    """
    drawings: dict[tuple[int, str], list[np.ndarray]] = {}
    image = _pictures.pillow()
    for part, path in enumerate(archives):
        with _archives.open_zip(path) as archive:
            for member in sorted(archive.namelist()):
                if found := MEMBER.fullmatch(member):
                    with image.open(io.BytesIO(_archives.read_member(archive, member))) as opened:
                        drawn = pictures.pixels(opened, 1, (size, size))
                    drawings.setdefault((part, found[1]), []).append(255 - drawn)
    if len(drawings) != CHARACTERS or {len(of_class) for of_class in drawings.values()} != {20}:
        raise TaskError(
            f"{archives[0].parent} does not hold {CHARACTERS} characters with 20 drawings each: get it again"
        )
    return {
        "images": np.concatenate([np.stack(of_class) for of_class in drawings.values()]),
        "names": np.array([name for _, name in drawings]),
        "parts": np.array([part for part, _ in drawings]),
    }


def _turned(images: np.ndarray) -> dict[str, np.ndarray]:
    """[n, 1, s, s] -> [4n, 1, s, s]: all drawings, then all of them turned once, twice, three times."""
    return {"images": np.concatenate([np.rot90(images, turn, axes=(2, 3)) for turn in range(4)])}


ISSUES = (
    "The split of Vinyals et al. (2016), which most papers report, is not in the official files: "
    "here splits are by alphabet, which is harder; accuracies are not comparable with those papers.",
    "Related scripts are in train and test: Syriac (Estrangelo) and Syriac (Serto), Cyrillic and Old "
    "Church Slavonic.",
    "The same 20 people per alphabet drew all of its characters: writers are shared by support and query.",
)
TURNED = (
    "Characters that look the same turned (O, +, S) give classes that cannot be told apart.",
    "The four turns of a drawing are four examples: they are in different classes, of one split.",
)


def card(name: str, counts: dict[str, int], issues: Sequence[str]) -> Card:
    """Data sheet of a source of these drawings."""
    return Card(
        name=name,
        description="Handwritten characters of 50 alphabets, drawn online with a mouse, bright ink on black.",
        origin=(
            "B. Lake, R. Salakhutdinov, J. Tenenbaum (2015), Human-level concept learning through "
            "probabilistic program induction, Science 350; https://github.com/brendenlake/omniglot."
        ),
        licence="MIT",
        terms="Use for any purpose; keep the licence text with copies.",
        counts=counts,
        known_issues=tuple(issues),
        personal_data="None beyond the handwriting of anonymous volunteers.",
        domain="vision",
        commercial=True,
    )
