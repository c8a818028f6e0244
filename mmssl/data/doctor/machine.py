"""What the machine gives a loader: cores, memory, shared memory, open files, and a folder to cache in."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

from mmssl.data.doctor.finding import Finding

GIB = 1 << 30
LEAST_MEMORY = 2 * GIB
LEAST_SHARED = 256 << 20
LEAST_FILES = 1024
UNLIMITED = 1 << 60


def examine_machine() -> list[Finding]:
    """The findings of the group "machine"."""
    return [_cores(), _memory(), _shared_memory(), _open_files(), _cache()]


def usable_cores() -> float:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def usable_memory() -> tuple[int, int]:
    """(bytes in all, bytes free) within the limit of the control group."""
    rows = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    total, free = (int(rows.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _words("/sys/fs/cgroup/memory.max")
    if limit and limit[0] != "max" and int(limit[0]) < min(total, UNLIMITED):
        total = int(limit[0])
        used = _words("/sys/fs/cgroup/memory.current")
        free = min(free, total - int(used[0])) if used else min(free, total)
    return total, free


def _cores() -> Finding:
    there, usable = os.cpu_count() or 1, usable_cores()
    found = f"{usable:g} usable of {there}" + ("; data workers and training share them" if usable <= 2 else "")
    return Finding("machine", "cores", "ok", found, facts={"usable": usable, "all": there})


def _memory() -> Finding:
    total, free = usable_memory()
    found = f"{free / GIB:.1f} GiB free of {total / GIB:.1f}"
    facts = {"total": total, "free": free}
    if total and free < LEAST_MEMORY:
        return Finding("machine", "memory", "broken", found, "use fewer workers or a smaller batch_size", facts=facts)
    return Finding("machine", "memory", "ok", found, facts=facts)


def _shared_memory() -> Finding:
    """The stream's rings have no name and do not lie in /dev/shm; torch's DataLoader and NCCL use it."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("machine", "shared memory", "ok", "no /dev/shm here; the stream does not need one")
    size = shutil.disk_usage(folder).total
    found = f"/dev/shm holds {size / GIB:.2f} GiB (the stream does not use it)"
    if size < LEAST_SHARED:
        mend = "NCCL and torch's DataLoader want more: docker run --shm-size=2g"
        return Finding("machine", "shared memory", "broken", found, mend, facts={"bytes": size})
    return Finding("machine", "shared memory", "ok", found, facts={"bytes": size})


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    found = f"{'unlimited' if soft == infinite else soft} (at most {'unlimited' if hard == infinite else hard})"
    if soft != infinite and soft < LEAST_FILES:
        return Finding("machine", "open files", "broken", found, f"ulimit -n {LEAST_FILES * 4}", facts={"soft": soft})
    return Finding("machine", "open files", "ok", found, facts={"soft": soft, "hard": hard})


def cache_folder() -> Path:
    """The environment's MMSSL_CACHE, else ``mmssl`` in the user's cache directory; it may not exist yet."""
    if given := os.environ.get("MMSSL_CACHE"):
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mmssl"


def _cache() -> Finding:
    """Write a file where the cache is, or where it would be made; nothing stays behind."""
    folder = cache_folder()
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"doctor")
        free = shutil.disk_usage(there).free
    except OSError as error:
        mend = "set MMSSL_CACHE to a folder that can be written"
        return Finding("machine", "cache folder", "broken", f"{folder}: {error.strerror}", mend)
    return Finding("machine", "cache folder", "ok", f"{folder}: can be written, {free / GIB:.1f} GiB free")


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _words(path: str) -> list[str]:
    return _text(path).split()
