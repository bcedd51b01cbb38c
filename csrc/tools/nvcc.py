"""Compiles csrc's CUDA sources: finds nvcc, knows its flags, and compiles only what changed.

Uses only the standard library, because setup.py imports it before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# From Turing on. Newer GPUs run the PTX of the last.
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 110, 120)

# The operators use LibTorch's stable ABI of this version, so one build works with all later ones.
MINIMUM_TORCH = (2, 10)

_MINIMUM_NVCC = (12, 0)  # C++20


class NvccError(Exception):
    """One line that says what is missing."""


@dataclass(frozen=True)
class Nvcc:
    path: str
    version: str  # such as 13.0.88
    architectures: frozenset[int]  # all it can compile for
    library_folders: tuple[str, ...]


def find() -> Nvcc:
    """The nvcc in CUDA_HOME, else in PATH, else in /usr/local/cuda.

    Raises:
        NvccError: if there is none, or it is too old.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        path = shutil.which("nvcc", path=str(Path(home) / "bin"))
        if path is None:
            raise NvccError(f"nvcc: not found in {home}/bin, where CUDA_HOME points")
    else:
        path = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
        if path is None:
            raise NvccError("nvcc: not found in PATH or /usr/local/cuda; set CUDA_HOME")
    printed = _output(path, "--version")
    version = re.search(r"\bV(\d+)\.(\d+)\.(\d+)", printed)
    if version is None:
        raise NvccError(f"{path} --version: printed no version")
    if (int(version[1]), int(version[2])) < _MINIMUM_NVCC:
        raise NvccError(
            f"{path}: expected CUDA {'.'.join(map(str, _MINIMUM_NVCC))} or later, "
            f"got {version[1]}.{version[2]}"
        )
    known = re.findall(r"compute_(\d+)", _output(path, "--list-gpu-arch"))
    steps = _output(path, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull)
    return Nvcc(
        path,
        ".".join(version.groups()),
        frozenset(map(int, known)),
        tuple(re.findall(r'"-L([^"]+)"', steps)),
    )


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NvccError(f"{shlex.join(command)}: {error}") from None
    return done.stdout + done.stderr


def chosen_architectures(nvcc: Nvcc, option: str | None) -> tuple[int, ...]:
    """The architectures to compile for, in ascending order.

    Args:
        option: such as "80;90", all of which nvcc must support; None for those of ARCHITECTURES
            that it supports.

    Raises:
        NvccError: if nvcc does not support them.
    """
    if option is None:
        return tuple(a for a in ARCHITECTURES if a in nvcc.architectures)
    words = re.split(r"[;,\s]+", option.strip())
    if not all(re.fullmatch(r"\d+", word) for word in words):
        raise NvccError(f"expected numbers such as 80;90, got {option!r}")
    chosen = sorted({int(word) for word in words})
    unknown = [a for a in chosen if a not in nvcc.architectures or a < ARCHITECTURES[0]]
    if unknown:
        known = sorted(a for a in nvcc.architectures if a >= ARCHITECTURES[0])
        raise NvccError(
            f"nvcc {nvcc.version} does not support {';'.join(map(str, unknown))}; "
            f"choose from {';'.join(map(str, known))}"
        )
    return tuple(chosen)


def torch_target_version() -> str:
    """The value of TORCH_TARGET_VERSION for MINIMUM_TORCH."""
    return f"0x{(MINIMUM_TORCH[0] << 56) | (MINIMUM_TORCH[1] << 48):016x}"


def torch_include_folders() -> list[str]:
    """Where torch's headers are, without loading torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise NvccError("torch: not installed")
    include = Path(spec.origin).parent / "include"
    return [str(include), str(include / "torch/csrc/api/include")]


def flags(torch_includes: Iterable[str], debug: bool = False) -> list[str]:
    """For every compilation. No fused multiply-add, so that results are those of the CPU core."""
    return [
        "-std=c++20",
        "--expt-relaxed-constexpr",
        "-fmad=false",
        "-Werror=all-warnings",
        "-Xcompiler=-Wall,-Wextra,-fvisibility=hidden,-fPIC",
        *(["-O1", "-lineinfo", "-Xcompiler=-g", "-DEGL_DEBUG"] if debug else ["-O3"]),
        "-DUSE_CUDA",
        f"-DTORCH_TARGET_VERSION={torch_target_version()}",
        "-I.",
        *(f"-isystem={path}" for path in torch_includes),
    ]


def code_for(architectures: Sequence[int]) -> list[str]:
    """Machine code for each, and PTX of the last."""
    last = architectures[-1]
    return [
        *(f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures),
        f"-gencode=arch=compute_{last},code=compute_{last}",
    ]


def cuda_sources() -> list[Path]:
    """All of csrc/ops/cuda, which instantiates the kernels in csrc/cuda."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "csrc/ops/cuda").glob("*.cu"))


@dataclass(frozen=True)
class Compilation:
    source: Path
    output: Path
    arguments: tuple[str, ...]
    log: Path | None = None  # for what nvcc prints


def compile_changed(nvcc: Nvcc, compilations: Iterable[Compilation], ninja_file: Path) -> None:
    """Runs those whose sources, headers or flags changed; MAX_JOBS at a time, if set.

    Raises:
        NvccError: if one fails, after nvcc's messages are printed.
    """
    ninja = shutil.which("ninja")
    if ninja is None:
        raise NvccError("ninja: not found; pip install ninja")
    lines = ["rule nvcc", "  command = $run", "  depfile = $out.d", "  deps = gcc"]
    lines += ["  description = nvcc $out", ""]
    for job in compilations:
        words = [nvcc.path, *job.arguments, "-MD", "-MF", f"{job.output}.d"]
        command = shlex.join([*words, "-o", str(job.output), str(job.source)])
        outputs = _in_ninja(job.output)
        if job.log is not None:
            log = shlex.quote(str(job.log))
            command = f"{command} >{log} 2>&1 || {{ cat {log}; exit 1; }}"
            outputs += f" | {_in_ninja(job.log)}"
        lines.append(f"build {outputs}: nvcc {_in_ninja(job.source)}")
        lines.append(f"  run = {command.replace('$', '$$')}")
    folder = ROOT / ninja_file.parent
    folder.mkdir(parents=True, exist_ok=True)
    (ROOT / ninja_file).write_text("\n".join([f"builddir = {ninja_file.parent}", *lines, ""]))
    jobs = os.environ.get("MAX_JOBS")
    done = subprocess.run([ninja, "-f", str(ninja_file), *(["-j", jobs] if jobs else [])], cwd=ROOT)
    if done.returncode != 0:
        raise NvccError("nvcc failed, see above")


def _in_ninja(path: Path) -> str:
    return re.sub(r"([$ :])", r"$\1", str(path))
