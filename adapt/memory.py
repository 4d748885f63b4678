"""Keeping freed memory for the next tensor."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# glibc, malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors instead of giving it back at once; True if it could.

    By default glibc gives buffers of some megabytes back to the operating system and asks for them anew,
    which then has to clear every page: on a CPU this can take as long as computing what goes into them. All
    methods gain, those with many large buffers most. The process then holds on to the most memory it has ever
    used. It is a setting of the whole process, hence of the program and not of the library: ``python -m
    adapt`` and the benchmarks switch it on, importing ``adapt`` does not. Elsewhere than on Linux with glibc
    nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
    return all([mallopt(option, value) == 1 for option, value in settings])
