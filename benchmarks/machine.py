"""The machine, versions, and commit that numbers were measured with."""

from __future__ import annotations

import subprocess

import torch
from script import ROOT

from egl_fast import _extension
from egl_fast.benchmarking.machine import machine as this_machine


def machine() -> dict[str, object]:
    """Processor, load, versions, commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return {**this_machine(), "commit": commit.stdout.strip()}


def machine_with_gpu() -> dict[str, object]:
    """The same and, under "gpu", the first GPU and what the extension was built for, if any."""
    if not torch.cuda.is_available():
        return {**machine(), "gpu": None}
    properties = torch.cuda.get_device_properties(0)
    build = _extension.build_info()
    gpu = {
        "name": properties.name,
        "architecture": f"sm_{properties.major}{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "torch_cuda": torch.version.cuda,
        "nvcc": build["cuda_version"],
        "architectures": str(build["cuda_architectures"]),
    }
    return {**machine(), "gpu": gpu}
