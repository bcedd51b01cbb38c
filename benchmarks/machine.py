"""Where and with what numbers were made."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from egl_fast import _extension

ROOT = Path(__file__).parent.parent


def machine() -> dict[str, object]:
    """Processor, load, versions, commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instruction_set": _extension.build_info()["instruction_set"],
        "commit": commit.stdout.strip(),
    }
