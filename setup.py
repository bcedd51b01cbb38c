"""Builds ``egl_fast._C``, the native operators; everything else is in pyproject.toml.

Environment:
    EGL_CUDA=auto|on|off  whether to build the CUDA half (default auto).
    EGL_DEBUG=1           -O1 -g with the internal checks on.
"""

import os
import shutil
from pathlib import Path

import torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

# The operators use LibTorch's stable ABI as of this version, so one build serves all later ones.
MINIMUM_TORCH = (2, 10)
ROOT = Path(__file__).parent


def check_cuda_option() -> None:
    """Stops with one line unless the CPU half is what EGL_CUDA asks for."""
    option = os.environ.get("EGL_CUDA", "auto")
    if option == "on":
        raise SystemExit("EGL_CUDA=on: the CUDA half of egl-fast is not written yet; use off")
    if option not in ("auto", "off"):
        raise SystemExit(f"EGL_CUDA: expected auto, on or off, got {option!r}")


def debug_option() -> bool:
    option = os.environ.get("EGL_DEBUG", "0")
    if option not in ("", "0", "1"):
        raise SystemExit(f"EGL_DEBUG: expected 0 or 1, got {option!r}")
    return option == "1"


def extension() -> CppExtension:
    sources = ["csrc/module.cpp"]
    for folder in ("csrc/core", "csrc/ops"):
        sources += sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob("*.cpp"))
    target_version = (MINIMUM_TORCH[0] << 56) | (MINIMUM_TORCH[1] << 48)
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fvisibility=hidden"]
    # torch's headers are not ours to keep free of warnings.
    flags += [f"-isystem{path}" for path in include_paths()]
    flags += ["-O1", "-g", "-D_GLIBCXX_ASSERTIONS"] if debug_option() else ["-O3", "-g0"]
    built = CppExtension(
        "egl_fast._C",
        sources,
        py_limited_api=True,
        extra_compile_args={"cxx": flags},
        define_macros=[
            ("TORCH_TARGET_VERSION", f"0x{target_version:016x}"),
            ("EGL_TORCH_VERSION", f'"{torch.__version__}"'),
            ("EGL_MINIMUM_TORCH_VERSION", '"{}.{}"'.format(*MINIMUM_TORCH)),
            *([("EGL_DEBUG", "1")] if debug_option() else []),
        ],
    )
    built.include_dirs = [str(ROOT)]
    return built


check_cuda_option()
setup(
    ext_modules=[extension()],
    cmdclass={
        "build_ext": BuildExtension.with_options(use_ninja=shutil.which("ninja") is not None)
    },
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
