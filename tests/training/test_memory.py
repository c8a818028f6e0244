"""What is freed stays with the process, so that the next step does not touch new pages."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from mmssl.training.memory import keep_freed_memory
kept = {kept}
def made():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(16 << 20).add(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, min(made() for _ in range(5)))
"""


def faults(kept: str, **settings: str) -> tuple[bool, int]:
    """Whether memory is kept, and the pages touched anew by eight tensors of 64 MiB after others were freed.

    Least of five rounds: the first makes the process as large as it needs to be, and in a later one a small block may
    have been put where a tensor had been, so that one more has to be asked for.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))} | settings
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(kept=kept)], env=environment, capture_output=True, text=True, check=True
    )
    told, count = done.stdout.split()
    return told == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_freed_tensors_are_made_again_of_the_same_pages() -> None:
    kept, few = faults("keep_freed_memory()")
    not_kept, many = faults("False")
    assert kept
    assert not not_kept
    assert few < many / 20, (few, many)


def test_the_users_settings_of_the_allocator_stay() -> None:
    assert not faults("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="131072")[0]
    assert not faults("keep_freed_memory()", GLIBC_TUNABLES="glibc.malloc.mmap_max=65536")[0]
