"""GTSRB by light: the same road signs in the dark, in the shade, in the sun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tasks._settings import check_setting, least
from tasks.grouped import GroupArrays
from tasks.images import _pictures, gtsrb
from tasks.source import TaskError

__all__ = ["GTSRBLight"]

#: Of five levels one after the other, from the darkest on.
SPLIT_OF = ("test", "train", "train", "validation", "train")
MEASURES = ("light", "sharpness")


class GTSRBLight(GroupArrays):
    """Photographs of road signs, [3, size, size] in [0, 1]; a group is a level of light.

    Stallkamp et al. (2012), as :class:`tasks.GTSRB`. A track is one physical sign on one drive, and all its
    frames have one light. But a track has one class, so that no task can be of one track; tracks of one light
    are put together instead. The tracks of each class are ordered from dark to bright, and level k of n has
    the k-th n-th of them: the same condition for all classes. Within a level supports and queries come from
    different tracks, for frames of one are near duplicates.

    Every fifth level from the darkest is for `test`, every fifth from the fourth for `validation`, the rest
    for `train`. All splits have the same classes, those with two tracks or more for each level.

    Args:
        size: side of an image in pixels.
        levels: n.
        by: what tracks are ordered by: "light", the mean of their pixels, or "sharpness", the root mean
            square of the differences between neighbouring pixels as a share of the standard deviation.
        root: as for :class:`tasks.GTSRB`.
        download: as for :class:`tasks.GTSRB`.

    Raises:
        TaskError: there is no archive, or its images are not those expected; a setting makes no sense.

    Example:
        >>> [*GTSRBLight().groups("test")]  # doctest: +SKIP
        ['light 01 of 10', 'light 06 of 10']
    """

    def __init__(
        self,
        size: int = 32,
        levels: int = 10,
        by: str = "light",
        root: str | None = None,
        download: bool = False,
    ) -> None:
        _pictures.check_size("gtsrb_light", size)
        check_setting("gtsrb_light: levels", levels, least(5, most=20))
        if by not in MEASURES:
            raise TaskError(f"gtsrb_light: by={by!r} is unknown: use one of {', '.join(MEASURES)}")
        data = gtsrb.decoded(size, root, download)
        images = data["images"]
        #: Of each row, its track, numbered over all classes.
        self._track = np.unique(np.stack([data["classes"], data["tracks"]]), axis=1, return_inverse=True)[1]
        self._track = self._track.reshape(-1)
        tracks_of = _levels(data["classes"], self._track, _ordered(images, self._track, by), levels)
        members: dict[str, dict[str, dict[str, np.ndarray]]] = {"train": {}, "validation": {}, "test": {}}
        for level in range(levels):
            members[SPLIT_OF[level % 5]][f"{by} {level + 1:02d} of {levels}"] = {
                name: np.flatnonzero(np.isin(self._track, tracks[level]))
                for name, tracks in tracks_of.items()
            }
        pools = [pool for groups in members.values() for of in groups.values() for pool in of.values()]
        counts = {
            "examples": sum(map(len, pools)),
            "classes": len(tracks_of),
            "tracks": len(np.unique(self._track[np.concatenate(pools)])),
        }
        counts |= {f"{split} groups": len(groups) for split, groups in members.items()}
        super().__init__(gtsrb.card("gtsrb_light", images, counts, ISSUES), images, members)

    def groups(self, split: str) -> Mapping[str, int | None]:
        """Group -> what it can give of each class, however its tracks are divided."""
        found = super().groups(split)
        return {name: min(map(self._room, self._groups[name].values())) for name in found}

    def _room(self, pool: np.ndarray) -> int:
        """The most supports and queries together. The side that asks for more, for all but one of them at
        most, gets the larger half of the tracks; the other asks for half of them at most."""
        frames = np.sort(np.unique(self._track[pool], return_counts=True)[1])
        smaller, larger = (int(frames[:n].sum()) for n in (len(frames) // 2, -(-len(frames) // 2)))
        return min(larger + 1, 2 * smaller + 1)

    def rows(
        self, rng: np.random.Generator, pools: Sequence[np.ndarray], shots: int, queries: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Supports from half of the tracks of each pool, queries from the other half."""
        drawn: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for pool in pools:
            halves = np.array_split(rng.permutation(np.unique(self._track[pool])), 2)
            if queries > shots:  # the first half is the larger one, if they differ
                halves.reverse()
            for side, half, number in zip(drawn, halves, (shots, queries), strict=True):
                side.append(rng.choice(pool[np.isin(self._track[pool], half)], number, replace=False))
        return np.concatenate(drawn[0]), np.concatenate(drawn[1])


def _ordered(images: np.ndarray, track: np.ndarray, by: str) -> np.ndarray:
    """The tracks from the lowest to the highest, alike ones by their numbers."""
    measured = np.empty(len(images))
    for row, image in enumerate(images):
        grey = image.mean(0) / 255
        if by == "light":
            measured[row] = grey.mean()
        else:
            steps = np.concatenate([np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()])
            measured[row] = np.sqrt((steps**2).mean()) / max(grey.std(), 1e-6)
    means = np.bincount(track, measured) / np.bincount(track)
    return np.argsort(means, kind="stable")


def _levels(
    classes: np.ndarray, track: np.ndarray, order: np.ndarray, levels: int
) -> dict[str, list[np.ndarray]]:
    """Class -> the tracks of each of its levels, for classes that have two tracks for each."""
    of_class = {
        f"{label:05d}": order[np.isin(order, track[classes == label])]
        for label in np.unique(classes).tolist()
    }
    return {
        name: np.array_split(tracks, levels) for name, tracks in of_class.items() if len(tracks) >= 2 * levels
    }


ISSUES = (
    "Light is measured from the frames, so a bright sign in the shade counts as a dark one in the sun; "
    "tracks are compared within their class only.",
    "Frames of a track are near duplicates: supports and queries are of different tracks.",
    "There are few levels: tasks of one level differ in their frames alone, and an interval knows it.",
)
