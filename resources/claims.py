"""Who holds a claim: a process's name, and whether it still runs.

Here: names and life of processes. Not here: what is claimed (``ledger``).
"""

from __future__ import annotations

import os
import socket
from functools import cache

#: Seconds by which two readings of a process's start may differ (the kernel rounds the boot time).
_SAME_START = 2.0


def this_process() -> str:
    """Name of this process: ``host:pid:start``, ``start`` in seconds after the machine's boot.

    The start tells a process from a later one with the same number; counted from the boot, it does not move when the
    clock is set.
    """
    return _named(os.getpid())


def is_alive(claim: str | None) -> bool:
    """Whether the claiming process may still run; a claim of another host counts as alive.

    Args:
        claim: ``host:pid:start``, or ``host:pid`` from before starts were recorded.
    """
    if not claim:
        return False
    host, pid, *start = claim.split(":")
    if host != socket.gethostname():
        return True
    now = _start(int(pid))
    return now is not None and (not start or now < 0 or abs(now - float(start[0])) < _SAME_START)


@cache
def _named(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{_start(pid) or 0.0:.2f}"


def _start(pid: int) -> float | None:
    """Seconds from boot to the process's start, ``None`` for no such process, negative where nobody may know."""
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(pid)
        # killed, and its parent has not asked yet
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time() - psutil.boot_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return -1.0
