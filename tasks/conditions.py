"""Tasks of the same classes under changed conditions: another noise, blur, weather or light in each.

In a `Distribution` tasks differ in their classes. Here the classes are fixed, label y is the same class in
every task, and a task differs in a few hidden numbers: what happened to the camera, which its support shows
and its queries share. Conditions are the corruptions of Hendrycks and Dietterich (2019), see `Corruption`.

The kinds are divided, so that a kind that is tested on is not one that was trained on. That is `DIVISION`:
validation has the authors' extra kinds, which they made for that; of the others, training and test have some
of each of their families (noise, blur, weather, digital).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from ._settings import SEED, between, check_index, check_settings, least, list_of, optional
from .corruptions import EXTRA_KINDS, KINDS, Corruption
from .distribution import Episode, EpisodeMeta
from .elsewhere import FromSource
from .pools import Pools, common_classes
from .sizes import check_task
from .source import Source, TaskError

__all__ = ["DIVISION", "SEVERITIES", "Conditions", "kinds_of"]

TEST = ("shot_noise", "glass_blur", "zoom_blur", "fog", "contrast", "jpeg_compression")
#: Part -> its kinds.
DIVISION: dict[str, tuple[str, ...]] = {
    "train": tuple(kind for kind in KINDS if kind not in TEST),
    "validation": EXTRA_KINDS,
    "test": TEST,
}
#: What `kinds` may be instead of names, with the severities that it has by default.
SEVERITIES: dict[str, tuple[int, ...]] = {
    "train": (1, 3, 5),
    "seen": (2, 4),
    "validation": (1, 2, 3, 4, 5),
    "test": (1, 2, 3, 4, 5),
}


def kinds_of(part: str) -> tuple[str, ...]:
    """The kinds of a part of :data:`SEVERITIES`."""
    return DIVISION["train" if part == "seen" else part]


@dataclass(frozen=True)
class Conditions(FromSource):
    """A distribution over conditions: fixed classes, one condition per task.

    Episode i draws one kind of corruption or two, a severity of each, and examples of every class, from
    `np.random.default_rng([seed, number of the split, i])` alone. Support and queries have the same
    condition; what it draws (noise, the direction of a motion) is drawn for each image, as in CIFAR-C.
    Severities are the five published ones; nothing lies between them.

    Args:
        source: images, the same classes in each split that is used; [C, H, W] with values in [0, 1].
        classes: names of the classes, in the order of their labels; None: all of the split.
        shots: labelled support examples per class; 0 if there are none.
        queries: queries per class.
        support_split: split that supports are drawn from.
        query_split: split that queries are drawn from; None: the same one. No example is in both.
        unlabelled: further support examples, of any class, without labels: `meta.unlabelled_x`.
        kinds: "train", "validation" or "test", the kinds of that part of `DIVISION`; "seen", those of "train"
            at severities that it leaves out; or a list of names. Of a part, kinds that need more channels
            than the images have are left out.
        severities: of 1 to 5, each as likely; None: 1, 3 and 5 for "train", 2 and 4 for "seen", else all.
        composed: the share of tasks with two kinds, one after the other; the rest have one. Where there is
            only one kind, it is alone in every task.
        strengths: as in `Corruption`: "cifar", or "imagenet" for larger images.
        seed: non-negative.
        validation: settings that differ where choices are made, see `Distribution`.

    Raises:
        TaskError: if no such task can be drawn; the message names the setting and the fix.

    Example:
        >>> from tasks import Digits
        >>> tasks = Conditions(Digits(size=16), shots=1, queries=2, support_split="query", unlabelled=7)
        >>> episode = tasks.episode(3)
        >>> episode.meta.group, len(episode.support_y), len(episode.meta.unlabelled_x)
        ('elastic_transform 3', 10, 7)
        >>> tasks.episode(4).meta.parameters
        {'motion_blur': 3.0, 'gaussian_noise': 5.0}
    """

    source: Source
    classes: Sequence[str] | None = None
    shots: int = 2
    queries: int = 10
    support_split: str = "train"
    query_split: str | None = None
    unlabelled: int = 0
    kinds: str | Sequence[str] = "train"
    severities: Sequence[int] | None = None
    composed: float = 0.5
    strengths: str = "cifar"
    seed: int = 0
    validation: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    regression: ClassVar[bool] = False
    #: The classes, in the order of their labels, and what conditions are made of.
    class_names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    choices: tuple[tuple[Corruption, ...], ...] = field(init=False, repr=False, compare=False)
    _pools: Pools = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_validation()
        check_settings(
            self,
            "task",
            shots=least(0),
            queries=least(1),
            unlabelled=least(0),
            severities=optional(list_of(least(1, most=5))),
            composed=between(0, 1),
            seed=SEED,
        )
        if not self.shots + self.unlabelled:
            raise TaskError(
                "task.shots=0 and task.unlabelled=0 leave nothing to adapt to: give a number of one of them"
            )
        object.__setattr__(self, "choices", self._choices())
        pools = common_classes(self.source, self.support_split, self.query_split)
        names = tuple(pools) if self.classes is None else tuple(self.classes)
        if missing := [name for name in names if name not in pools]:
            raise TaskError(
                f"task.classes names {missing[0]!r}, which split {self.support_split!r} of "
                f"{self.source.name} has not: use some of {', '.join([*pools][:20])}"
            )
        if len({*names}) < max(len(names), 2):
            raise TaskError(f"task.classes={[*names]}: give two classes or more, each once")
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "_pools", {name: pools[name] for name in names})
        self._check_sizes()

    def _choices(self) -> tuple[tuple[Corruption, ...], ...]:
        """The kinds, each at all severities."""
        shape = self.source.shape
        if len(shape) != 3:
            raise TaskError(
                f"task.source {self.source.name} has examples of shape {list(shape)}, and conditions are "
                "those of images [C, H, W]: use a source of images"
            )
        part = self.kinds if isinstance(self.kinds, str) else ""
        if part and part not in SEVERITIES:
            raise TaskError(
                f"task.kinds={part!r} is unknown: use one of {', '.join(SEVERITIES)}, or a list of names"
            )
        kinds = kinds_of(part) if part else tuple(self.kinds)
        severities = self.severities if self.severities is not None else SEVERITIES.get(part, (1, 2, 3, 4, 5))
        if not len(severities) or not kinds:
            raise TaskError(f"task.{'severities' if kinds else 'kinds'} is empty: give at least one")
        if twice := [kind for kind in kinds if [*kinds].count(kind) > 1]:
            raise TaskError(f"task.kinds names {twice[0]!r} twice: give each once")
        try:
            made = tuple(tuple(Corruption(kind, s, self.strengths) for s in severities) for kind in kinds)
        except TaskError as error:  # in the words of these settings
            said = str(error).replace("corruption.kind=", "task.kinds: ").replace("corruption.", "task.")
            raise TaskError(said) from None
        fitting = tuple(kind for kind in made if kind[0].takes(shape[0]))
        if not part and len(fitting) < len(made):
            kind = next(kind[0] for kind in made if kind not in fitting)
            raise TaskError(
                f"task.kinds names {kind.kind!r}, which images of {shape[0]} channels cannot have"
            )
        if not fitting:
            raise TaskError(f"task.kinds={self.kinds} has none for images of {shape[0]} channels: name kinds")
        return fitting

    def _check_sizes(self) -> None:
        said = f"task.shots={self.shots}, task.queries={self.queries} and task.unlabelled={self.unlabelled}"
        ways = len(self.class_names)
        check_task(ways * (self.shots + self.queries) + self.unlabelled, self.source.shape, said)
        for side, split in ((0, self.support_split), (1, self.query_split)):
            asked = (self.shots + self.queries if self._shared else self.shots, self.queries)[side]
            name = min(self.class_names, key=lambda name: len(self._pools[name][side]))
            if (have := len(self._pools[name][side])) < asked:
                raise TaskError(
                    f"{said} need {asked} examples per class, but class {name!r} of {self.source.name} has "
                    f"{have} in split {split or self.support_split!r}: use fewer"
                )
        each = self.shots + self.queries if self._shared else self.shots
        left = sum(len(pool) - each for pool, _ in self._pools.values())
        if self.unlabelled > left:
            raise TaskError(
                f"task.unlabelled={self.unlabelled} but {left} examples are left of split "
                f"{self.support_split!r}: use task.unlabelled<={left}"
            )

    @property
    def ways(self) -> int:
        """Classes per task: all of them."""
        return len(self.class_names)

    @property
    def pool_split(self) -> str:
        """Where a classifier of these classes is learned from: `train`, if the source has the classes
        there."""
        there = "train" in self.source.splits and {*self.class_names} <= {*self.source.classes("train")}
        return "train" if there else self.support_split

    @property
    def _shared(self) -> bool:
        """Whether supports and queries are drawn from the same examples."""
        return self.query_split in (None, self.support_split)

    @property
    def described(self) -> dict[str, Any]:
        """What a reader of a report should know of the tasks beside source and sizes."""
        shown = self.kinds if isinstance(self.kinds, str) else ", ".join(self.kinds)
        severities = ", ".join(str(corruption.severity) for corruption in self.choices[0])
        told: dict[str, Any] = {"conditions": f"{shown} (severities {severities} of {self.strengths})"}
        return {**told, "unlabelled": self.unlabelled} if self.unlabelled else told

    def condition(self, rng: np.random.Generator) -> tuple[Corruption, ...]:
        """One corruption or two of different kinds, in the order in which they are done."""
        two = bool(rng.random() < self.composed) and len(self.choices) > 1
        chosen = rng.choice(len(self.choices), 1 + two, replace=False)
        return tuple(self.choices[k][rng.integers(len(self.choices[k]))] for k in chosen)

    def episode(self, index: int) -> Episode:
        """Episode `index` >= 0: the same one on every call, machine and worker. `meta.group` names its
        condition, and `meta.parameters` holds the severity of each kind in it."""
        index = check_index(index)
        rng = np.random.default_rng([self.seed, self.source.splits.index(self.support_split), index])
        condition = self.condition(rng)
        drawn = [self._draw(rng, *self._pools[name]) for name in self.class_names]
        support, query = (np.concatenate(rows) for rows in zip(*drawn, strict=True))
        unlabelled = self._further(rng, support, query)

        x = self.source.load(np.concatenate([support, query, unlabelled]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        for corruption in condition:
            x = corruption(x, generator)
        n, m = len(support), len(query)
        labels = torch.arange(self.ways)
        meta = EpisodeMeta(
            index,
            self.seed,
            self.class_names,
            support,
            query,
            {corruption.kind: float(corruption.severity) for corruption in condition},
            group=" + ".join(f"{corruption.kind} {corruption.severity}" for corruption in condition),
            unlabelled_indices=unlabelled if self.unlabelled else None,
            unlabelled_x=x[n + m :] if self.unlabelled else None,
        )
        support_y, query_y = (labels.repeat_interleave(each) for each in (self.shots, self.queries))
        return Episode(x[:n], support_y, x[n : n + m], query_y, meta)

    def episodes(self, start: int, stop: int) -> Iterator[Episode]:
        """Episodes start, start + 1, ..., stop - 1, drawn as they are asked for."""
        return map(self.episode, range(start, stop))

    def _draw(
        self, rng: np.random.Generator, for_support: np.ndarray, for_query: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the support [K] and the queries [Q] of one class."""
        if self._shared:
            rows = rng.choice(for_support, self.shots + self.queries, replace=False)
            return rows[: self.shots], rows[self.shots :]
        return (
            rng.choice(for_support, self.shots, replace=False),
            rng.choice(for_query, self.queries, replace=False),
        )

    def _further(self, rng: np.random.Generator, support: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Indices of unlabelled examples: of those left in the support's pools, each as likely."""
        if not self.unlabelled:
            return np.empty(0, np.int64)
        pools = np.concatenate([pool for pool, _ in self._pools.values()])
        return rng.choice(np.setdiff1d(pools, [*support, *query]), self.unlabelled, replace=False)
