"""The machine and versions used for a measurement."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from egl_fast import _extension


def machine() -> dict[str, object]:
    """Processor, load, and versions."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instruction_set": _extension.build_info()["instruction_set"],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
