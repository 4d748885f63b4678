"""The pushforward, compiled: ``torch.compile`` of the reference.

The compiler fuses what the reference does one operation at a time, zeros of frozen weights included. Two
things it gets wrong without help:

- a layer norm with a frozen weight has no forward derivative in compiled code, and is written out while it is
  traced (``norms``);
- the ``jvp`` of a user's ``autograd.Function`` is silently ignored. The first result of every compilation is
  therefore held against the reference.
"""

from types import CodeType
from typing import Any

import torch
import torch._dynamo
from torch.utils._pytree import tree_leaves

from adapt.errors import AdaptError
from adapt.forward.agreement import Dtypes, difference
from adapt.forward.errors import words
from adapt.forward.kernels import ONE_AT_A_TIME, differentiable_kernels
from adapt.forward.norms import WrittenNorms
from adapt.forward.reference import batched_jvp, reference
from adapt.forward.types import Function, Pytree

__all__ = ["compiled"]

#: Torch gives up after so many compilations of one function; here each f with each shape is one.
RECOMPILATIONS = 256

_push = torch.compile(batched_jvp, fullgraph=True, dynamic=False)
_checked: set[tuple[Any, ...]] = set()


def compiled(f: Function, x: Pytree, tangents: Pytree) -> tuple[Pytree, Pytree]:
    """``(f(x), J·V)`` by compiled code; see :func:`adapt.forward.pushforward`.

    Compiled code is reused for another f with the same code and another closure of the same shapes and
    dtypes. It runs under ``torch.no_grad`` only, and outside ``torch.func`` transforms; elsewhere this is the
    reference. (Transforms cannot call compiled code; the compiled backward pass of torch 2.13 reads freed
    memory.)

    Raises:
        AdaptError: f cannot be compiled, or its compiled derivative is wrong.
    """
    if torch.is_grad_enabled() or torch._C._functorch.peek_interpreter_stack() is not None:
        return reference(f, x, tangents)
    limit = torch._dynamo.config.patch(recompile_limit=RECOMPILATIONS)
    with ONE_AT_A_TIME, limit, differentiable_kernels(), WrittenNorms():
        try:
            result: tuple[Pytree, Pytree] = _push(f, x, tangents)
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError, NotImplementedError) as error:
            raise AdaptError(
                f"torch.compile cannot compile this function ({words(str(error))}): use engine='fast'"
            ) from error
    _check(f, x, tangents, result)
    return result


def _check(f: Function, x: Pytree, tangents: Pytree, result: tuple[Pytree, Pytree]) -> None:
    code: CodeType | Function = getattr(f, "__code__", f)
    key = (code, *((leaf.shape, leaf.dtype, leaf.device) for leaf in tree_leaves((tangents, result))))
    if key in _checked:
        return
    with Dtypes() as dtypes:
        right = reference(f, x, tangents)
    if reason := difference(right, result, dtypes.seen):
        raise AdaptError(
            f"the compiled derivative of this function is wrong ({reason}), as happens with an "
            "autograd.Function of one's own, whose jvp torch.compile ignores: use engine='fast'"
        )
    _checked.add(key)
