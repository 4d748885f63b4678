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

__all__ = ["ONE_AT_A_TIME", "differentiable_kernels"]

#: Held while torch differentiates forward, and while a backbone runs with other parameters than its own: all
#: threads share the levels of torch's ``jvp`` (2.13) and the modules. One lock for both, so that two threads
#: cannot each hold what the other needs.
ONE_AT_A_TIME = threading.RLock()


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
