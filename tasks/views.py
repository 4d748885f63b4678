"""Augmented views of the support: further examples of a class that has one.

    S' = S ∪ {(T_v(x), y) : (x, y) ∈ S, v = 1 … V} ,     T_v drawn anew for every example

Dosovitskiy et al. (2014), *Discriminative Unsupervised Feature Learning with Convolutional Neural Networks*;
in few-shot learning Khodadadeh, Bölöni, Shah (2019), *Unsupervised Meta-Learning for Few-Shot Image
Classification*. With a single example of a class nothing of the class is left when it is left out; with views
something is: how the class looks shifted, turned or in another light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ._settings import check_setting, check_settings, least
from .distribution import Episode
from .source import TaskError
from .transforms import Style, Transform
from .wrapped import Wrapped

__all__ = ["SLIGHT", "WithViews", "views_of"]

#: How many views of an example.
VIEWS = least(1, most=100)

#: What leaves nearly any picture what it is. Mirrored signs and letters are others, so nothing is mirrored.
SLIGHT = Style(rotation=10, scale=0.15, shear=0.1, translation=0.08, padding="border")


def views_of(
    x: torch.Tensor, number: int, style: Transform = SLIGHT, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Each example followed by ``number`` views of it.

    Args:
        x: images in [0, 1], ``[n, C, H, W]``.
        number: V, how many views of each.
        style: makes a view.
        generator: of what is drawn; None: the same views in every call.

    Returns:
        ``[n (1 + V), C, H, W]``, whose labels are ``y.repeat_interleave(1 + V)``.

    Raises:
        TaskError: examples that are no images, or no such number.

    Example:
        >>> x, y = torch.rand(3, 1, 8, 8), torch.arange(3)
        >>> views_of(x, 4).shape, y.repeat_interleave(5).tolist()
        (torch.Size([15, 1, 8, 8]), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise TaskError(
            f"views are made of images [n, C, H, W] but got {x.dtype} of shape {list(x.shape)}: texts, "
            "tables "
            "and series have none, so leave WithViews (task=views) out"
        )
    number = check_setting("number", number, VIEWS)
    if not len(x):
        return x.clone()
    drawn = generator or torch.Generator().manual_seed(0)
    return torch.stack([x, *(style(x, drawn) for _ in range(number))], dim=1).flatten(0, 1)


@dataclass(frozen=True)
class WithViews(Wrapped):
    """Tasks whose support holds views of each of its examples beside it; queries are as they were.

    All methods of a comparison get them. ``shots`` and the indices of the support count examples, not views.

    Args:
        base: tasks of images.
        views: V, how many of each example.
        style: makes a view; None: the one with which the tasks are drawn, image by image, or a slight one.

    Example:
        >>> from tasks import Digits, Distribution
        >>> one_shot = Distribution(Digits(), 3, 1, 2, support_split="support")
        >>> WithViews(one_shot, views=4).episode(0).support_y.tolist()
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    """

    views: int = 4
    style: Transform | None = None

    def __post_init__(self) -> None:
        check_settings(self, "task", views=VIEWS)
        if self.style is not None and not callable(self.style):
            raise TaskError(
                f"task.style={self.style!r} makes no view: give a tasks.Style (in a config its _target_ and "
                "settings), or null for a slight change"
            )
        if self.regression:
            raise TaskError(
                f"{self.source.name} has numbers, no labels: a view of an example would have the same, so "
                "leave WithViews (task=views) out"
            )

    @property
    def described(self) -> dict[str, Any]:
        """With the number of views of an example, also those of views."""
        return {**self.base.described, "views": self.copies - 1}

    @property
    def copies(self) -> int:
        """With the views."""
        return super().copies * (1 + self.views)

    def change(self, episode: Episode, rng: np.random.Generator) -> Episode:
        """The episode with views in its support."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        each, meta = 1 + self.views, episode.meta
        clean = None if meta.clean_y is None else meta.clean_y.repeat_interleave(each)
        return episode._replace(
            support_x=views_of(episode.support_x, self.views, self._style, generator),
            support_y=episode.support_y.repeat_interleave(each),
            meta=replace(meta, clean_y=clean),
        )

    @property
    def _style(self) -> Transform:
        if self.style is not None:
            return self.style
        inner: Any = self.base
        while isinstance(inner, Wrapped):
            inner = inner.base
        own = getattr(inner, "transform", None)
        return replace(own, consistency=0.0) if isinstance(own, Style) else SLIGHT
