"""What goes into and comes out of every module of a network in one call, and where two calls first differ.

Used to name the module that breaks a contract, once it is known that one is broken.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["Event", "culprit", "first_change", "path_of", "traced"]


class Event(NamedTuple):
    """A module is entered with ``tensors``, or left (``done``) with them; ``beside`` is what another tensor
    held then."""

    path: str
    done: bool
    tensors: list[Tensor]
    beside: Tensor | None


@contextmanager
def traced(backbone: nn.Module, beside: Tensor | None = None) -> Iterator[list[Event]]:
    """While active, calls of modules of ``backbone`` are appended to the list; its tensors are copies, since
    a later module may write over them."""
    events: list[Event] = []

    def note(path: str, done: bool, value: Any) -> None:
        events.append(Event(path, done, _copies(value), None if beside is None else beside.clone()))

    with ExitStack() as hooks:
        for path, module in backbone.named_modules():

            def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                note(path, False, (args, kwargs))

            def leave(_: nn.Module, args: Any, kwargs: Any, output: Any, path: str = path) -> None:
                note(path, True, output)

            for handle in (
                module.register_forward_pre_hook(enter, with_kwargs=True),
                module.register_forward_hook(leave, with_kwargs=True),
            ):
                hooks.callback(handle.remove)
        yield events


def culprit(first: list[Event], second: list[Event], same: Callable[[Tensor, Tensor], bool]) -> str | None:
    """The path of the module whose own code makes ``second`` differ from ``first``.

    It is the first that is left with other tensors than before, since what it was given, and whatever it
    called until then, was the same; or the one that enters another module with other tensors. "" is the
    network. None: nothing differs.
    """
    running = [""]
    for a, b in zip(first, second, strict=False):
        alike = a[:2] == b[:2] and len(a.tensors) == len(b.tensors)
        if not alike:
            return running[-1]
        if not all(map(same, a.tensors, b.tensors)):
            return a.path if a.done else running[-1]
        if a.done:
            running.pop()
        else:
            running.append(a.path)
    return None


def first_change(events: list[Event], value: Tensor) -> str:
    """The path of the module while which ran, by its own code, what stood ``beside`` ceased to be
    ``value``."""
    for place, event in enumerate(events):
        if event.beside is not None and not bool((event.beside == value).all()):
            return event.path if event.done else path_of(events[:place])
    return ""


def path_of(events: list[Event]) -> str:
    """The path of the module that is running, of those whose calls are in ``events``."""
    running = [""]
    for event in events:
        if event.done:
            running.pop()
        else:
            running.append(event.path)
    return running[-1]


def _copies(value: Any) -> list[Tensor]:
    values = value.values() if hasattr(value, "values") and not isinstance(value, Tensor) else (value,)
    return [leaf.detach().clone() for leaf in tree_leaves([*values]) if isinstance(leaf, Tensor)]
