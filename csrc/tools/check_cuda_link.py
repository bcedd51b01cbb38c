"""Checks that the CUDA half of an installed egl_fast fits the installed CUDA build of torch.

Run by `make test-cuda-link`, outside the source folder. It needs no GPU, and does not check what
the operators compute. Exit status: 0 if everything holds.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import egl_fast
from egl_fast import _extension

STREAM_FUNCTION = "aoti_torch_get_current_cuda_stream"


def findings() -> Iterator[tuple[bool, str]]:
    """For each property, whether it holds, and what it is."""
    build = _extension.build_info()
    library = next(Path(egl_fast.__file__).parent.glob("_operators*.so"))
    yield torch.version.cuda is not None, f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    architectures = " ".join(map(str, build["cuda_architectures"]))
    yield (
        build["built_with_cuda"],
        f"{library.name}: {library.stat().st_size / 1e6:.1f} MB, nvcc {build['cuda_version']}, "
        f"architectures {architectures}",
    )

    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", printed("readelf", "-d", str(library)))
    yield "libtorch.so" in needed, "it needs libtorch.so, which loads torch's CUDA library"
    yield not any("cudart" in name for name in needed), f"it does not need libcudart: {needed}"
    symbols = printed("nm", "-D", str(library)).splitlines()
    of_runtime = [line for line in symbols if re.search(r" _*cuda[A-Z]", line)]
    yield not of_runtime, f"it exports no symbols of the CUDA runtime: {of_runtime}"
    weak = [line for line in symbols if STREAM_FUNCTION in line]
    yield [line.split()[0] for line in weak] == ["w"], f"{STREAM_FUNCTION} is a weak reference"
    # Like the loader, this also looks in the libraries that it needs.
    yield hasattr(ctypes.CDLL(str(library)), STREAM_FUNCTION), f"{STREAM_FUNCTION} is found"

    mapped = set(re.findall(r"/(libcudart[^/\s]*)", Path("/proc/self/maps").read_text()))
    yield True, f"CUDA runtimes that torch loads: {', '.join(sorted(mapped)) or 'none loaded'}"

    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    operators = sorted(
        name for name in torch._C._dispatch_get_all_op_names() if name.startswith("egl_fast::")
    )
    yield bool(operators), f"{len(operators)} operators"
    for name in operators:
        yield has_kernel(name, "CUDA"), f"{name} has a CUDA half"


def printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    wrong = 0
    for holds, words in findings():
        print(f"{'ok' if holds else 'WRONG':<7}{words}")
        wrong += not holds
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
