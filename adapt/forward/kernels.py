"""Which of torch's kernels may run while it differentiates forward.

The fused attention kernels, the fused transformer layer and the fused recurrent layers (of oneDNN on a CPU,
of cuDNN on a GPU) have no forward derivative in torch, their plain forms do. These choices are settings of
the whole process, so that concurrent passes share each switch: the first turns it, the last turns it back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.backends import cudnn, mha, mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

__all__ = ["ONE_AT_A_TIME", "differentiable_kernels"]

#: Held while torch differentiates forward, and while a backbone runs with other parameters than its own: all
#: threads share the levels of torch's ``jvp`` (2.13) and the modules. One lock for both, so that two threads
#: cannot each hold what the other needs.
ONE_AT_A_TIME = threading.RLock()


class _Switch:
    """A setting of the process: ``turn`` changes it, and tells an ExitStack how to change it back."""

    def __init__(self, turn: Callable[[ExitStack], object]) -> None:
        self._turn, self._stack = turn, ExitStack()
        self._guard, self._users = threading.Lock(), 0

    @contextmanager
    def turned(self) -> Iterator[None]:
        """Until the last user leaves."""
        with self._guard:
            if self._users == 0:
                self._turn(self._stack)
            self._users += 1
        try:
            yield
        finally:
            with self._guard:
                self._users -= 1
                if self._users == 0:
                    self._stack.close()


def _plain_attention(stack: ExitStack) -> None:
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
    mha.set_fastpath_enabled(False)


def _plain_recurrence(stack: ExitStack) -> None:
    stack.callback(mkldnn.set_flags, mkldnn.enabled)  # its flags() warn about settings of other devices
    mkldnn.set_flags(False)
    kept = {name: getattr(cudnn, name) for name in ("benchmark", "deterministic", "allow_tf32")}
    stack.enter_context(cudnn.flags(enabled=False, **kept))


_ATTENTION, _RECURRENCE = _Switch(_plain_attention), _Switch(_plain_recurrence)
_RECURRENT = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


class _PlainRecurrence(TorchFunctionMode):
    """Turns oneDNN and cuDNN off while a recurrent layer runs, and not for convolutions and the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _RECURRENT:
            return func(*args, **(kwargs or {}))
        with _RECURRENCE.turned():
            return func(*args, **(kwargs or {}))


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Attention by plain matrix products, no fused transformer or recurrent layer, until the last user
    leaves."""
    with _ATTENTION.turned(), _PlainRecurrence():
        yield
