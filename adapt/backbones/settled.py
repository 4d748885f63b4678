"""What a backbone computes of no example, kept: the states of a preamble (:mod:`adapt.backbones.preamble`).

    features(φ, x) = rest(φ, x, s(φ)) ,    s: once for all, if no φ that moves reaches it; else once per task

Such a backbone has a buffer :data:`KNOWN`, empty: given s in its place, as any other tensor is given in the
place of its own, it does not compute it. Nothing is written to the backbone, and functions stay pure.
"""

from collections.abc import Collection, Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from adapt.backbones.call import call_as_is
from adapt.backbones.prefix import unreached
from adapt.backbones.structure import device_of, evidence
from adapt.forward.fast.dual import version
from adapt.forward.kernels import ONE_AT_A_TIME
from adapt.precision import autocast_of

__all__ = ["KNOWN", "settled", "unmoved"]

#: Name of the buffer.
KNOWN = "known"

#: What a backbone was, whether some names reach s, and s if some do not.
_once: "WeakKeyDictionary[nn.Module, tuple[Any, dict[frozenset[str], Tensor | None]]]" = WeakKeyDictionary()
#: What backbone and parameters were of whoever asked, and s under them.
_each: "WeakKeyDictionary[Hashable, tuple[Any, Tensor]]" = WeakKeyDictionary()


class _Alone(nn.Module):
    """The part of a backbone that meets no example, as a function of its own."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, preamble: Tensor) -> Tensor:
        """``[layers, 2, 1, heads, P, d]``."""
        return torch.stack([torch.stack(pair) for pair in self.backbone.remembered()])  # type: ignore[operator]


def settled(backbone: nn.Module, parameters: Mapping[str, Tensor], owner: Hashable) -> Mapping[str, Tensor]:
    """``parameters``, and what of the backbone they settle: for calls that follow each other, with other
    examples. It is kept as long as ``owner`` lives, and computed again where backbone or parameters have
    changed."""
    if not _keeps(backbone):
        return parameters
    with ONE_AT_A_TIME:
        known = unmoved(backbone, parameters)
        if not known:
            now = evidence(backbone), [(name, id(it), version(it)) for name, it in parameters.items()]
            if owner not in _each or _each[owner][0] != now:
                _each[owner] = now, _computed(backbone, parameters)
            known = {KNOWN: _each[owner][1]}
        return {**parameters, **known}


def unmoved(backbone: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """What is the same whatever the parameters ``names`` are: computed once for the backbone; empty where
    they reach it."""
    if not _keeps(backbone):
        return {}
    with ONE_AT_A_TIME:
        now, which = evidence(backbone), frozenset(names)
        was, found = _once.get(backbone, ((), {}))
        if was != now:
            found = {}
        if which not in found:
            # One and the same for all names that do not reach it.
            same = next((states for states in found.values() if states is not None), None)
            value = _computed(backbone, _own(backbone, which), only_unreached=True)
            found[which] = value if value is None or same is None else same
            _once[backbone] = now, found
        states = found[which]
        return {} if states is None else {KNOWN: states}


def _keeps(backbone: nn.Module) -> bool:
    """Whether there is something to keep. Under autocast it would be of its dtypes; a compiler sees for
    itself."""
    if not hasattr(backbone, "remembered") or KNOWN not in backbone._buffers:
        return False
    return not torch.compiler.is_compiling() and autocast_of(device_of(backbone)).dtype is None


def _computed(backbone: nn.Module, parameters: Mapping[str, Tensor], only_unreached: bool = False) -> Any:
    alone, ids = _Alone(backbone), backbone.preamble
    given = {f"backbone.{name}": value for name, value in parameters.items()}
    # A plain tensor, whatever transform or mode the caller is in.
    with temporarily_clear_interpreter_stack(), torch.inference_mode(False), torch.no_grad():
        if only_unreached:
            return unreached(lambda: call_as_is(alone, given, ids), given)  # type: ignore[arg-type]
        return call_as_is(alone, given, ids)  # type: ignore[arg-type]


def _own(backbone: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    # By each of its names, where a tensor has several.
    both = (backbone.named_parameters, backbone.named_buffers)
    tensors = {name: it for listed in both for name, it in listed(remove_duplicate=False)}
    return {name: tensors[name].detach() for name in names}
