"""What scoring takes in memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """What this process has held of the machine's memory at most, so far."""
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program alone: what getrusage says begins with the process that started it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
