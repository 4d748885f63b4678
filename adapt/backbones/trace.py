"""What goes into and comes out of every module of a network in one call, and where two calls first differ.

Used to name the module that breaks a contract, once it is known that one is broken.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["Event", "culprit", "path_of", "traced"]


class Event(NamedTuple):
    """A module is entered with ``tensors``, or left (``done``) with them."""

    path: str
    done: bool
    tensors: list[Tensor]


@contextmanager
def traced(backbone: nn.Module) -> Iterator[list[Event]]:
    """While active, calls of modules of ``backbone`` are appended to the list; its tensors are copies, since
    a later module may write over them."""
    events: list[Event] = []
    with ExitStack() as hooks:
        for path, module in backbone.named_modules():

            def enter(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                events.append(Event(path, False, _copies((args, kwargs))))

            def leave(_: nn.Module, args: Any, kwargs: Any, output: Any, path: str = path) -> None:
                events.append(Event(path, True, _copies(output)))

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
