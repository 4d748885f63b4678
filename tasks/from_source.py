"""Tasks of a source whose kind only the source knows: a table may hold classes, numbers or groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .distribution import Distribution
from .functions import FunctionTasks
from .grouped import GroupedTasks
from .meta_dataset import MetaDataset
from .sizes import Size
from .source import AnySource, TaskError
from .transforms import Transform

__all__ = ["from_source"]


def from_source(
    source: AnySource,
    ways: Size | None = 5,
    shots: Size = 5,
    queries: Size = 15,
    support_split: str = "train",
    query_split: str | None = None,
    seed: int = 0,
    validation: Mapping[str, Any] | None = None,
    *,
    transform: Transform | None = None,
    replace: bool = False,
    imbalanced: bool = False,
    sizes: MetaDataset | None = None,
    outside: int = 0,
    vectorised: bool = False,
) -> Distribution | FunctionTasks | GroupedTasks:
    """`GroupedTasks`, `FunctionTasks` or a `Distribution` over classes, whichever fits `source`; their
    arguments are explained there. Where there are no classes to choose from, `ways` means nothing.

    Raises:
        TaskError: a setting for classes, and `source` draws functions or groups.

    Example:
        >>> from tasks import Digits, Sinusoid
        >>> tasks = [from_source(source, support_split=split) for source, split in
        ...          ((Digits(), "support"), (Sinusoid(), "train"))]
        >>> [type(found).__name__ for found in tasks]
        ['Distribution', 'FunctionTasks']
    """
    for_classes: dict[str, Any] = {
        "transform": transform,
        "replace": replace,
        "imbalanced": imbalanced,
        "sizes": sizes,
        "outside": outside,
        "vectorised": vectorised,
    }
    common: dict[str, Any] = {
        "shots": shots,
        "queries": queries,
        "support_split": support_split,
        "query_split": query_split,
        "seed": seed,
        "validation": validation,
    }
    # A source of examples need not say that it is none of functions or groups.
    grouped = getattr(source, "grouped", False)
    if not grouped and not getattr(source, "regression", False):
        examples: Any = source
        return Distribution(examples, ways=ways, **common, **for_classes)
    draws = f"{source.name} draws {'groups' if grouped else 'functions'}"
    if asked := [name for name, value in for_classes.items() if value]:
        raise TaskError(f"task.{asked[0]} is for examples of classes, but {draws}: leave it out")
    if not all(isinstance(common[name], int) for name in ("shots", "queries")):
        raise TaskError(f"{draws} of one size: use numbers for task.shots and task.queries")
    kind: Any = GroupedTasks if grouped else FunctionTasks
    return kind(source, **common)
