"""Whether what somebody makes an adapter of are the parts that it takes, said at once and by their names.

A head that is none would otherwise be noticed in the middle of a fit, by what it lacks.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from adapt.adapter.calibration import Calibration
from adapt.adapter.matching import Matching
from adapt.adapter.state import AdapterState
from adapt.errors import AdaptError
from adapt.heads import HEADS, is_transductive
from adapt.inner import LOSSES, SOLVERS
from adapt.spaces import SPACES, Space

__all__ = ["check_names", "check_parts"]

#: What a head and a loss do, and what they say of themselves.
HEAD, LOSS = ("fit", "logits", "loo_logits"), ("value", "values", "gradient", "curvature")


def check_parts(parts: Mapping[str, Any]) -> None:
    """Refuse what is no part of an adapter, by the names of its attributes; the backbone is looked at
    elsewhere.

    Raises:
        AdaptError: names what is wrong, and what to pass instead.
    """
    _check("space", parts["space"], lambda it: isinstance(it, Space), "space", SPACES, "film(backbone)")
    state = parts["state"]
    if not isinstance(state, AdapterState) or not all(isinstance(value, Tensor) for value in state):
        raise AdaptError(
            f"state is {_said(state)}, not an AdapterState of tensors: make one with "
            "initial_state(space.initial, basis), layered_state(space) or identity_state(space)"
        )
    _check("solver", parts["solver"], _is_solver, "solver", SOLVERS, "inner.GaussNewton()")
    for role in ("head", "support_head"):
        _check(
            role,
            parts[role],
            lambda it: _has(it, HEAD, "supports_regression"),
            "head",
            HEADS,
            "heads.Ridge()",
        )
    if is_transductive(parts["support_head"]):
        raise AdaptError(
            f"support_head is {_said(parts['support_head'])}, which predicts examples together; in the "
            "support loss each is left out alone: use heads.Prototype(), say, and this one as head"
        )
    _check(
        "loss", parts["loss"], lambda it: _has(it, LOSS, "regression"), "loss", LOSSES, "inner.CrossEntropy()"
    )
    for name, kind, wanted in (
        ("backbone_name", str, "a name, or None"),
        ("info", Mapping, "a mapping"),
        ("calibration", Calibration, "an adapt.adapter.Calibration, or None"),
        ("match", Matching, "an adapt.adapter.Matching, or None"),
    ):
        value = parts[name]
        if not isinstance(value, kind) and not (value is None and name != "info"):
            raise AdaptError(f"{name} is {_said(value)}: give {wanted}")


def check_names(
    given: Collection[str], known: Collection[str], whose: str = "an adapter has no attribute"
) -> None:
    """Refuse names that are not ``known``, in the words of ``whose``.

    Raises:
        AdaptError: names the first of them, and what may have been meant.
    """
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
            raise AdaptError(f"{whose} {name}: {hint}")


def _check(
    role: str,
    value: Any,
    fits: Callable[[Any], bool],
    kind: str,
    known: Mapping[str, Any],
    example: str,
) -> None:
    if not isinstance(value, type) and fits(value):
        return
    hint = f"pass an object, such as {example}"
    classes = {getattr(made, "__name__", name): made for name, made in known.items()}
    if isinstance(value, str):
        table = {name.lower(): made for name, made in classes.items()} | {**known}
        if close := get_close_matches(value.lower(), table, n=1):
            hint = f"pass the object itself, {_call(table[close[0]])}"
    elif any(value is made for made in classes.values()):
        hint = f"pass what it makes, {_call(value)}"
    raise AdaptError(f"{role} is {_said(value)}, which is no {kind}: {hint}")


def _call(made: Any) -> str:
    """How one gets an object of it."""
    package = made.__module__.split(".")[1]
    return f"{package}.{made.__name__}({'' if isinstance(made, type) else 'backbone'})"


def _said(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)[:80]
    if inspect.isfunction(value):
        return f"the function {value.__name__}"
    return f"a {type(value).__name__}"


def _is_solver(value: Any) -> bool:
    """Whether it can be called with model, targets, loss and what was learned; no network and no function
    that makes spaces can."""
    if not callable(value) or isinstance(value, nn.Module):
        return False
    try:
        inspect.signature(value).bind(None, None, None, None)
    except TypeError:
        return False
    except ValueError:  # written in C, of which nothing is known
        return True
    return not any(value is space for space in SPACES.values())


def _has(value: Any, methods: Collection[str], flag: str) -> bool:
    return all(callable(getattr(value, name, None)) for name in methods) and hasattr(value, flag)
