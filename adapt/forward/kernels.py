"""Which of torch's kernels may run while it differentiates forward.

The fused attention kernels and the fused transformer layer have no forward derivative in torch, their plain
forms do. Both choices are settings of the whole process, so that concurrent passes share one switch: the
first turns it, the last turns it back.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["differentiable_kernels"]

_GUARD = threading.Lock()
_SWITCH = ExitStack()
_users = 0


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Attention by plain matrix products and no fused transformer layer, until the last user leaves."""
    global _users
    with _GUARD:
        if _users == 0:
            _SWITCH.enter_context(sdpa_kernel(SDPBackend.MATH))
            _SWITCH.callback(
                torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled()
            )
            torch.backends.mha.set_fastpath_enabled(False)
        _users += 1
    try:
        yield
    finally:
        with _GUARD:
            _users -= 1
            if _users == 0:
                _SWITCH.close()
