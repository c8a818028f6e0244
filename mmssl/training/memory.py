"""Freed memory of the CPU is kept for the next step instead of being given back to the system.

A batch of clips is some hundred megabytes in float32, and every operation on it makes a tensor of that size. The C
library asks the system for such a block anew each time and gives it back when it is freed; the system hands it out page
by page, each zeroed at its first touch. Of a training step on a CPU that took up to half of the time (mallopt(3);
figures in docs/decisions.md). With the blocks kept, a process stays as large as its largest step.
"""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h
_NEVER = -1
_SET_BY_USER = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Let this process keep what it frees; the processes that it starts decide for themselves.

    Returns:
        Whether it does now: not where the C library is another than glibc, nor where the user's environment has
        settings for the allocator, which stay as they are.
    """
    if any(name in os.environ for name in _SET_BY_USER) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
