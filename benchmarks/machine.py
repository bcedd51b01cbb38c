"""Where, with what and at which commit numbers were made."""

from __future__ import annotations

import subprocess
from pathlib import Path

from egl_fast.benchmarking.machine import machine as this_machine

ROOT = Path(__file__).parent.parent


def machine() -> dict[str, object]:
    """Processor, load, versions, commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {**this_machine(), "commit": commit.stdout.strip()}
