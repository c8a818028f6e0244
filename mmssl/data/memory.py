"""Bounds on the memory that decoding may take: a file of 9 KB can make a demuxer ask for gigabytes.

A worker's own bound is the kernel's: past it allocations fail, and the sample becomes a hole with the cause
"out of memory". In any process that decodes, FFmpeg is also told the largest single block it may ask for.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from functools import lru_cache
from pathlib import Path

LARGEST_BLOCK = 512 << 20  # bytes; a picture of 36 million pixels with 16 bits a sample takes 216 MB
_DATA = re.compile(r"^VmData:\s+(\d+) kB", re.MULTILINE)
_LIBAVUTIL = re.compile(r"(/\S*/libavutil[^/\s]*)$", re.MULTILINE)


def bound_process(more: int) -> bool:
    """Let this process take at most `more` bytes of private memory beyond what it has; False where unsupported.

    Memory shared with the parent does not count (`RLIMIT_DATA` of Linux).
    """
    try:
        import resource

        found = _DATA.search(Path("/proc/self/status").read_text())
        if found is None:
            return False
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(found[1]) * 1024 + more
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    except (ImportError, OSError, ValueError):
        return False
    return True


@lru_cache(maxsize=1)
def bound_blocks() -> int:
    """Tell every FFmpeg that this process has loaded the largest block it may allocate; returns how many there are.

    The limit holds for the process, also for FFmpeg's use elsewhere in it. None are found where there is no
    ``/proc``; a stream without workers then has FFmpeg's own limit, 2 GiB a block.
    """
    try:
        paths = set(_LIBAVUTIL.findall(Path("/proc/self/maps").read_text()))
    except OSError:
        return 0
    bound = 0
    for path in paths:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)  # the one that is loaded already
            library.av_max_alloc.argtypes = [ctypes.c_size_t]
            library.av_max_alloc.restype = None
            library.av_max_alloc(LARGEST_BLOCK)
            bound += 1
    return bound
