"""The pushforward, compiled: ``torch.compile`` of the reference.

The compiler fuses what the reference does one operation at a time, zeros of frozen weights included. Two
things it gets wrong without help:

- a layer norm with a frozen weight has no forward derivative in compiled code, and is written out while it is
  traced (``norms``);
- the ``jvp`` of a user's ``autograd.Function`` is silently ignored. The first result of every compilation is
  therefore held against the reference.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo

from adapt.errors import AdaptError
from adapt.forward.agreement import Dtypes, difference
from adapt.forward.errors import first_sentence, let_fail
from adapt.forward.kernels import ONE_AT_A_TIME, differentiable_kernels
from adapt.forward.norms import WrittenNorms
from adapt.forward.reference import batched_jvp, reference
from adapt.forward.types import Function, Pytree

__all__ = ["compiled"]

#: Torch gives up after so many compilations of one function; here each f with each shape is one.
RECOMPILATIONS = 256
#: Of the compiler: writes code for the processor.
BACKEND = "inductor"


class _Code:
    """What the compiler made of one f with one set of shapes, and what is known of its derivative.

    The compiler keeps it with everything that it has assumed of f, and drops it with f.
    """

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self.checked = False
        self.reason: str | None = None  # why it is wrong

    def __call__(self, *args: Any) -> Any:
        _ran.append(self)
        return self._run(*args)


#: The code that ran in the last call; held and read under ``ONE_AT_A_TIME``.
_ran: list[_Code] = []


def _backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> _Code:
    return _Code(torch._dynamo.lookup_backend(BACKEND)(graph, inputs))


_push = torch.compile(batched_jvp, backend=_backend, fullgraph=True, dynamic=False)


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
        _ran.clear()
        failure = None
        try:
            result: tuple[Pytree, Pytree] = _push(f, x, tangents)
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError, NotImplementedError) as error:
            failure = error
        code = list(_ran)
    if failure is not None:
        let_fail(f, x)
        raise AdaptError(
            f"torch.compile cannot compile this function ({first_sentence(str(failure))}): use engine='fast'"
        ) from failure
    _check(f, x, tangents, result, code)
    return result


def _check(
    f: Function, x: Pytree, tangents: Pytree, result: tuple[Pytree, Pytree], code: list[_Code]
) -> None:
    """Hold ``result`` against the reference, unless the ``code`` that made it is known to be right. (There is
    none for an f in which nothing is computed.)"""
    made = code[-1] if code else _Code(f)
    if not made.checked:
        with Dtypes() as dtypes:
            right = reference(f, x, tangents)
        made.reason = difference(right, result, dtypes.seen)
        made.checked = True
    if made.reason:
        raise AdaptError(
            f"the compiled derivative of this function is wrong ({made.reason}), as happens with an "
            "autograd.Function of one's own, whose jvp torch.compile ignores: use engine='fast'"
        )
