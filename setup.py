"""Builds the native code; everything else is in pyproject.toml.

``egl_fast._operators`` holds the operators for torch, in LibTorch's stable ABI: one library for
every Python and every torch from 2.10 on. ``egl_fast._C`` is a pybind11 module for one Python, and
does not need torch.

Environment:
    EGL_CUDA=auto|on|off  whether to build the CUDA half. auto, the default, builds it if there is
                          nvcc and torch is a CUDA build; on requires only nvcc.
    EGL_CUDA_ARCHS=80;90  architectures, instead of all from 75 to 120; the last also as PTX.
    CUDA_HOME             where to look for nvcc first.
    EGL_DEBUG=1           -O1 -g, with internal checks.
    EGL_STRICT=1          warnings are errors, as in `make build`.
    MAX_JOBS              how many compilers run at once.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pybind11
import torch
from setuptools import Extension, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "csrc/tools"))

import nvcc  # noqa: E402

MODULE = "egl_fast._C"
OPERATORS = "egl_fast._operators"


@dataclass(frozen=True)
class CudaHalf:
    nvcc: nvcc.Nvcc
    architectures: tuple[int, ...]


def cuda_half() -> CudaHalf | None:
    """The CUDA half that EGL_CUDA asks for; exits with one line if it cannot be built."""
    option = os.environ.get("EGL_CUDA") or "auto"
    if option not in ("auto", "on", "off"):
        raise SystemExit(f"EGL_CUDA: expected auto, on or off, got {option!r}")
    if option == "off":
        return None
    if option == "auto" and torch.version.cuda is None:
        print(
            f"EGL_CUDA=auto: building without CUDA: torch {torch.__version__} is not a CUDA build"
        )
        return None
    try:
        found = nvcc.find()
    except nvcc.NvccError as error:
        if option == "on":
            raise SystemExit(f"EGL_CUDA=on: {error}") from None
        print(f"EGL_CUDA=auto: building without CUDA: {error}")
        return None
    try:
        chosen = nvcc.chosen_architectures(found, os.environ.get("EGL_CUDA_ARCHS") or None)
    except nvcc.NvccError as error:
        raise SystemExit(f"EGL_CUDA_ARCHS: {error}") from None
    return CudaHalf(found, chosen)


def switched_on(name: str) -> bool:
    option = os.environ.get(name, "0")
    if option not in ("", "0", "1"):
        raise SystemExit(f"{name}: expected 0 or 1, got {option!r}")
    return option == "1"


def compile_flags() -> list[str]:
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-fvisibility=hidden"]
    # Except where csrc/core/contraction.inc allows it.
    flags += ["-ffp-contract=off"]
    # Not for users, whose compilers may have warnings that ours do not.
    flags += ["-Werror"] if switched_on("EGL_STRICT") else []
    return flags + (["-O1", "-g", "-D_GLIBCXX_ASSERTIONS"] if DEBUG else ["-O3", "-g0"])


def macros() -> list[tuple[str, str | None]]:
    defined: list[tuple[str, str | None]] = [
        ("TORCH_TARGET_VERSION", nvcc.torch_target_version()),
        ("EGL_TORCH_VERSION", f'"{torch.__version__}"'),
        ("EGL_MINIMUM_TORCH_VERSION", '"{}.{}"'.format(*nvcc.MINIMUM_TORCH)),
    ]
    if DEBUG:
        defined.append(("EGL_DEBUG", "1"))
    if CUDA is not None:
        defined += [
            ("EGL_WITH_CUDA", "1"),
            ("EGL_CUDA_VERSION", f'"{CUDA.nvcc.version}"'),
            ("EGL_CUDA_ARCHITECTURES", ",".join(map(str, CUDA.architectures))),
        ]
    return defined


def module() -> Extension:
    searching = ["ctc_beam_search", "ctc_exact_log_probs", "ctc_prefix_search", "isa"]
    return Extension(
        MODULE,
        ["csrc/module.cpp", *(f"csrc/core/{name}.cpp" for name in searching)],
        include_dirs=[str(ROOT), pybind11.get_include()],
        extra_compile_args={"cxx": compile_flags()},
        define_macros=macros(),
        language="c++",
    )


def operators() -> CppExtension:
    folders = ["csrc/core", "csrc/ops", *(["csrc/ops/cuda"] if CUDA is not None else [])]
    built = CppExtension(
        OPERATORS,
        [
            str(path.relative_to(ROOT))
            for folder in folders
            for path in sorted((ROOT / folder).glob("*.cpp"))
        ],
        py_limited_api=True,
        # -isystem, because torch's headers may have warnings.
        extra_compile_args={"cxx": compile_flags() + [f"-isystem{p}" for p in include_paths()]},
        define_macros=macros(),
    )
    built.include_dirs = [str(ROOT)]
    if sys.platform == "linux":
        # Some compilers link libstdc++ statically. If exported, its symbols would mix with those of
        # torch's libstdc++, and the first formatted error message would crash.
        built.extra_link_args += ["-Wl,--exclude-libs,ALL"]
    if CUDA is not None:
        built.library_dirs += CUDA.nvcc.library_folders
        built.extra_link_args += [
            # Our own copy of the runtime: torch may have another version.
            "-lcudart_static",
            *("-ldl", "-lrt", "-lpthread"),
            # torch's C interface to streams is in its CUDA library, which libtorch.so loads.
            *("-Wl,--no-as-needed", "-ltorch"),
        ]
    return built


class BuildBothHalves(BuildExtension):
    def build_extensions(self) -> None:
        if CUDA is not None:
            (built,) = (one for one in self.extensions if one.name == OPERATORS)
            folder = Path("build/cuda/extension-debug" if DEBUG else "build/cuda/extension")
            arguments = [*nvcc.flags(include_paths(), DEBUG), "-c"]
            arguments += nvcc.code_for(CUDA.architectures)
            compilations = [
                nvcc.Compilation(source, folder / f"{source.stem}.o", tuple(arguments))
                for source in nvcc.cuda_sources()
            ]
            try:
                nvcc.compile_changed(CUDA.nvcc, compilations, folder / "build.ninja")
            except nvcc.NvccError as error:
                raise SystemExit(f"the CUDA half of egl-fast: {error}") from None
            built.extra_objects += [str(ROOT / job.output) for job in compilations]
            built.depends += built.extra_objects
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        # Both extensions compile some of csrc/core, with different flags.
        shared, self.build_temp = self.build_temp, f"{self.build_temp}/{ext.name}"
        super().build_extension(ext)
        self.build_temp = shared


DEBUG = switched_on("EGL_DEBUG")
CUDA = cuda_half()
setup(
    ext_modules=[module(), operators()],
    cmdclass={
        "build_ext": BuildBothHalves.with_options(use_ninja=shutil.which("ninja") is not None)
    },
)
