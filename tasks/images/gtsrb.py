"""GTSRB: photographs of German road signs, several films of each kind."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks import _cache
from tasks.data import DataFile, fetch_any, remembered_sha256
from tasks.images import _archives, _pictures
from tasks.readers import pictures
from tasks.source import ArraySource, Card, TaskError

__all__ = ["GTSRB"]

OFFICIAL = DataFile(
    "gtsrb/GTSRB_Final_Training_Images.zip",
    (),  # none is published: what is in it is counted
    "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/GTSRB_Final_Training_Images.zip",
)
SMALL = DataFile(
    "gtsrb/gtsrb_small.zip", ("3e4d47f934d12a3c17a0d3d97870d91bd4293e87b9d29c973d84ca7ccb7a00c4",)
)
MEMBER = re.compile(r"(?:gtsrb|GTSRB/Final_Training/Images)/(\d{5})/(\d{5})_(\d{5})\.(?:png|ppm)")
IMAGES = {SMALL.path: 5_160, OFFICIAL.path: 39_209}
TRACKS = 1_307
CLASSES = {"train": 18, "validation": 11, "test": 14}  # enough for tasks of ten
SPLIT_SEED = 0  # fixed: splits and pools belong to the source, not to an experiment


class GTSRB(ArraySource):
    """Photographs of 43 kinds of road signs, [3, size, size] in [0, 1].

    Stallkamp et al. (2012), *Man vs. computer: Benchmarking machine learning algorithms for traffic sign
    recognition*; its training images. A track is some thirty frames of one physical sign, near duplicates of
    each other, so the tracks of each class are divided into two pools, and a task takes supports from one and
    queries from the other: `support_split=train_support`, `query_split=train_query`. There is no split from
    which both could be drawn.

    `split_by="classes"`: `train_support`, `train_query`, `validation_support`, … `test_query`; 18, 11 and 14
    classes, drawn by a fixed seed, no class in two of the three.
    `split_by="tracks"`: `all_support` and `all_query`, each of all 43 classes.

    Args:
        size: side of an image in pixels; frames are scaled whole, their proportions not kept.
        split_by: "classes" or "tracks".
        root: folder of the data sets; None: `$ADAPT_DATA`, else `~/.cache/adapt`. Below `gtsrb/` it holds the
            official GTSRB_Final_Training_Images.zip (39,209 images), or gtsrb_small.zip (5,160 of them with
            32x32 pixels, all tracks), which is used if the other is missing. Pools and splits are the same
            tracks.
        download: get the official archive if neither is there.

    Raises:
        TaskError: there is no archive, or its images are not those expected; a setting makes no sense.

    Example:
        >>> GTSRB().splits[:2]  # doctest: +SKIP
        ('train_support', 'train_query')
    """

    def __init__(
        self, size: int = 32, split_by: str = "classes", root: str | None = None, download: bool = False
    ) -> None:
        _pictures.check_size("gtsrb", size)
        if split_by not in ("classes", "tracks"):
            raise TaskError(f"gtsrb: split_by={split_by!r} is unknown: use 'classes' or 'tracks'")
        data = decoded(size, root, download)
        members, classes = _pools(data["classes"], data["tracks"])
        if split_by == "tracks":
            members = {
                f"all_{pool}": {
                    label: members[f"{classes[label]}_{pool}"][label] for label in sorted(classes)
                }
                for pool in ("support", "query")
            }
        counts = {f"{name} examples": sum(map(len, of.values())) for name, of in members.items()}
        counts = {"classes": 43, "tracks": TRACKS, **counts}
        super().__init__(card("gtsrb", data["images"], counts, ISSUES), data["images"], members)


_SCALING = Path(str(pictures.__file__))


def decoded(size: int, root: str | None, download: bool) -> Mapping[str, np.ndarray]:
    """What :func:`_read` gives, kept between runs."""
    image = _pictures.pillow()
    path = fetch_any([OFFICIAL, SMALL], root=root, download=download)
    key = _cache.key(
        remembered_sha256(path), image.__version__, *map(_cache.file_sha256, (Path(__file__), _SCALING))
    )
    folder = _cache.cache_folder() / f"gtsrb-{size}-{key}"
    return _cache.memory_mapped(folder, lambda: _read(path, size))


def _read(path: Path, size: int) -> dict[str, np.ndarray]:
    """All frames, sorted by class, track and number.

    Returns:
        images: uint8 [n, 3, size, size]; classes, tracks: int64 [n], tracks numbered within their class.
    """
    image = _pictures.pillow()
    labels: list[tuple[int, int]] = []
    with _archives.open_zip(path) as archive:
        frames = sorted(name for name in archive.namelist() if MEMBER.fullmatch(name))
        images = np.empty((len(frames), 3, size, size), np.uint8)
        for row, name in enumerate(frames):
            with image.open(io.BytesIO(_archives.read_member(archive, name))) as opened:
                images[row] = pictures.pixels(opened, 3, (size, size))
            found = MEMBER.fullmatch(name)
            assert found is not None
            labels.append((int(found[1]), int(found[2])))
    expected = IMAGES[f"gtsrb/{path.name}"]
    if len(frames) != expected or len(set(labels)) != TRACKS:
        raise TaskError(
            f"{path} holds {len(frames)} images of {len(set(labels))} tracks, not {expected} of {TRACKS}: "
            "get it again"
        )
    classes, tracks = np.array(labels).T
    return {"images": images, "classes": classes, "tracks": tracks}


def _pools(
    of_class: np.ndarray, of_track: np.ndarray
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
    """Rows by split, pool and class, and the split of each class.

    Classes are dealt out to the splits, and the tracks of each class to the two pools half and half, by a
    fixed seed; it matters not how many frames of a track there are.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    labels = [f"{label:05d}" for label in np.unique(of_class)]
    parts = np.split(rng.permutation(labels), np.cumsum([*CLASSES.values()])[:-1])
    members: dict[str, dict[str, np.ndarray]] = {}
    split_of: dict[str, str] = {}
    for split, part in zip(CLASSES, parts, strict=True):
        for label in sorted(map(str, part)):
            split_of[label] = split
            rows = np.flatnonzero(of_class == int(label))
            order = rng.permutation(np.unique(of_track[rows]))
            for pool, half in zip(("support", "query"), np.array_split(order, 2), strict=True):
                members.setdefault(f"{split}_{pool}", {})[label] = rows[np.isin(of_track[rows], half)]
    return members, split_of


ISSUES = (
    "Frames of one track are near duplicates: supports and queries must come from different tracks, as the "
    "two pools of each split have them.",
    "Several frames of a support set may be of one track: it then shows fewer signs than shots.",
)


def card(name: str, images: np.ndarray, counts: Mapping[str, int], issues: Sequence[str]) -> Card:
    """Data sheet of a source of these images, with counts and known issues of its own."""
    small = (
        "A part of the images: 120 per class, from all tracks, already scaled to 32x32 pixels (bilinear); a "
        "larger size adds no detail."
    )
    return Card(
        name=name,
        description="Photographs of German road signs from a moving car, 43 kinds, whole frame with border.",
        origin=(
            "J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel (2012), Man vs. computer, Neural Networks 32; "
            "https://benchmark.ini.rub.de, training images."
        ),
        licence="none stated; INI benchmark, free for research",
        terms="Cite the paper; no licence for commercial use is granted explicitly.",
        counts={"examples": len(images), **counts},
        known_issues=(
            *issues,
            "Frames are scaled to a square, their proportions not kept; many are dark or blurred.",
            *(() if len(images) == IMAGES[OFFICIAL.path] else (small,)),
        ),
        personal_data="None: close crops of road signs.",
        domain="vision",
        commercial=None,
    )
