"""Examples and labels of a torch ``Dataset`` or ``DataLoader``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from adapt.errors import AdaptError
from tasks.readers.pictures import is_picture

__all__ = ["is_loader", "paired", "parts_of"]


def is_loader(x: Any) -> bool:
    """Whether ``x`` is a ``Dataset`` or ``DataLoader`` of torch."""
    return isinstance(x, DataLoader | Dataset)


def paired(x: Any, y: Any) -> tuple[Any, Any]:
    """Examples and labels of ``fit(x, y)`` and ``score(x, y)``, where ``x`` may bring the labels.

    Raises:
        AdaptError: no labels, labels twice, or labels beside a loader that shuffles.
    """
    if not is_loader(x):
        return x, y
    examples, labels = parts_of(x, ordered=y is not None)
    if y is None and labels is None:
        raise AdaptError(f"x is a {type(x).__name__} without labels: let it give (x, y), or pass y as well")
    if y is not None and labels is not None:
        raise AdaptError(
            f"x is a {type(x).__name__} that brings labels, and there is a y as well: leave y out"
        )
    return examples, labels if y is None else y


def parts_of(x: Any, ordered: bool) -> tuple[Any, Any]:
    """All examples of ``x``, and all labels; None where it has none.

    Args:
        x: gives x or (x, y, …), a ``DataLoader`` in batches.
        ordered: whether the caller counts on the order.

    Raises:
        AdaptError: an order that is not known, items that are dicts.
    """
    if not isinstance(x, DataLoader):
        # A map-style dataset need not define iteration, and reading until IndexError would hide one.
        items = x if isinstance(x, IterableDataset) else (x[i] for i in range(len(x)))
        return _joined([_pair(item, single=True) for item in items], single=True)
    if ordered and not _in_order(x):
        raise AdaptError(
            "x is a DataLoader in no known order, or that leaves examples out, and so would results be: "
            "use shuffle=False, drop_last=False and no batch_sampler of your own"
        )
    single = x.batch_size is None and x.batch_sampler is None
    return _joined([_pair(item, single) for item in x], single)


def _in_order(loader: DataLoader) -> bool:
    """Whether it gives every example of its dataset once, the first one first."""
    if isinstance(loader.dataset, IterableDataset):  # every worker reads all of it
        return loader.num_workers < 2 and not loader.drop_last
    batches = loader.batch_sampler
    if batches is None:
        return isinstance(loader.sampler, SequentialSampler)
    if type(batches) is not BatchSampler or not isinstance(batches.sampler, SequentialSampler):
        return False
    return not batches.drop_last or len(loader.dataset) % batches.batch_size == 0  # type: ignore[arg-type]


def _pair(item: Any, single: bool) -> tuple[Any, Any]:
    """(x, y) of an item or batch, y None where there is none."""
    if isinstance(item, Mapping):
        raise AdaptError(
            f"the items of x are dicts with the keys {', '.join(map(str, item))}: let it give pairs (x, y)"
        )
    if isinstance(item, list | tuple):
        if len(item) == 1 and isinstance(item[0], Tensor):
            return item[0], None
        whole = all(isinstance(part, str) or is_picture(part) for part in item)  # a batch of examples
        if len(item) > 1 and (single or not whole):
            return item[0], item[1]
    return item, None


def _joined(pairs: list[tuple[Any, Any]], single: bool) -> tuple[Any, Any]:
    if not pairs:
        return [], None
    examples = [x for x, _ in pairs] if single else _concatenated([x for x, _ in pairs])
    labels = [y for _, y in pairs]
    if any(y is None for y in labels):
        return examples, None
    if single and isinstance(labels[0], Tensor):  # rows of values, say
        return examples, torch.stack(labels)
    return examples, labels if single else _concatenated(labels)


def _concatenated(batches: list[Any]) -> Any:
    if (
        all(isinstance(batch, Tensor) for batch in batches)
        and len({batch.shape[1:] for batch in batches}) == 1
    ):
        return torch.cat(batches)
    return [row for batch in batches for row in batch]
