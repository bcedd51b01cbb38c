"""How much memory this process holds."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def resident_memory_bytes() -> int:
    """The memory that this process holds now; where the system does not tell, its peak."""
    return _status("VmRSS:") or peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far."""
    # Of this program alone: getrusage's peak includes the process that started it.
    found = _status("VmHWM:")
    if found is not None:
        return found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_memory_bytes() -> int | None:
    """The memory that this process holds on GPUs; None if it does not use any."""
    torch = sys.modules.get("torch")  # not imported for this
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return sum(int(torch.cuda.memory_reserved(device)) for device in devices)


def _status(key: str) -> int | None:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None
