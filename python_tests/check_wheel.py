"""Builds the wheel that people install, installs it into an empty environment, and tests it there.

    python python_tests/check_wheel.py                          # `make test-wheel`
    python python_tests/check_wheel.py --wheel FILE --python python3.13 --torch 2.14.1

The wheel is built from a source distribution of the files that git tracks, and kept in build/wheel;
--wheel tests an existing one. The environment and the folder in which tests run are new and outside
the source folder, so that all imports come from the wheel. Exit status 0 if everything passes;
otherwise 1, and the last line says what failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from sbom import pins

ROOT = Path(__file__).resolve().parent.parent

#: The operators are built for every Python, the pybind11 module for one.
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
OPERATORS = "egl_fast/_operators.abi3.so"
MODULE = f"egl_fast/_C{sysconfig.get_config_var('EXT_SUFFIX')}"

#: What the tests below need beside the package and its extras.
TEST_PACKAGES = ["pytest", "hypothesis", "scipy"]

#: Quick tests that look at the package from outside, from commands to native operators.
TESTS = [
    "test_audio.py",
    "test_beam_search.py",
    "test_checkpoint.py",
    "test_cli_select.py",
    "test_ctc.py",
    "test_decoder.py",
    "test_manifest.py",
    "test_nbest_cotangents.py",
    "test_records.py",
    "test_recurrent_backward.py",
    "test_recurrent_forward.py",
    "test_report_evaluation.py",
    "test_selection.py",
    "test_simulation_plan.py",
]
#: These need the source folder, its build folder, or a browser.
TESTS_OF_THE_TREE = [
    "test_build_tools.py",
    "test_cuda_halves.py",
    "test_docs.py",
    "test_gpu_report.py",
    "test_layering.py",
    "test_report_accessibility.py",
    "test_report_browser.py",
    "test_report_browser_gate.py",
    "test_report_browser_readers.py",
    "test_report_budget.py",
    "test_report_training.py",
]


class BrokenError(Exception):
    """One line that says what failed."""


def main() -> int:
    """Run all steps; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="test this one, build none")
    parser.add_argument("--python", default=sys.executable, help="the environment's interpreter")
    parser.add_argument("--torch", metavar="VERSION", help="other than requirements.lock's")
    parser.add_argument("--all", action="store_true", help="every test that needs no source folder")
    options = parser.parse_args()
    try:
        wheel = options.wheel or built_wheel(ROOT / "build/wheel")
        check_contents(wheel)
        with tempfile.TemporaryDirectory(prefix="egl-fast-wheel-") as folder:
            environment = Environment(Path(folder), options.python, options.torch)
            environment.install(wheel)
            check_import(environment, wheel)
            check_commands(environment)
            run_tests(environment, options.all)
    except BrokenError as error:
        print(f"check_wheel: {error}", file=sys.stderr)
        return 1
    return 0


def built_wheel(folder: Path) -> Path:
    """Build the wheel as a user would, from the source distribution; the only wheel in `folder`.

    The source distribution holds what git tracks, not other files in this folder.
    """
    with tempfile.TemporaryDirectory(prefix="egl-fast-source-") as name:
        source = Path(name)
        for file in tracked_files():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, source / file, follow_symlinks=False)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build_sdist = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
        run("source distribution", [sys.executable, "-c", build_sdist], cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    run("wheel", [*build, "--wheel-dir", str(folder), str(sdist)], cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def tracked_files(under: str = ".") -> list[str]:
    """Files of the working tree, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", under], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [file for file in listed.split("\0") if file and (ROOT / file).exists()]


def check_contents(wheel: Path) -> None:
    """The package as it is in the source folder, the native code, and nothing else."""
    if f"-{TAG}-{TAG}-" not in wheel.name:
        raise BrokenError(f"{wheel.name} is not tagged {TAG}-{TAG}")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {*tracked_files("egl_fast"), OPERATORS, MODULE}
    if found != expected:
        raise BrokenError(
            f"{wheel.name} lacks {sorted(expected - found)}, and has too much: "
            f"{sorted(found - expected)}"
        )
    print(f"{wheel.name}: {len(found)} files, {wheel.stat().st_size / 1e6:.1f} MB")


class Environment:
    """A virtual environment with nothing in it, and a folder to work in, both outside the tree."""

    def __init__(self, folder: Path, python: str, torch: str | None) -> None:
        if folder.resolve().is_relative_to(ROOT):
            raise BrokenError(f"{folder} is in the source folder; set TMPDIR to one outside")
        run("environment", [python, "-m", "venv", str(folder / "venv")], cwd=folder)
        self.bin = folder / "venv/bin"
        self.work = folder / "work"
        self.work.mkdir()
        pins = [line for line in lock_lines() if torch is None or not line.startswith("torch==")]
        if torch is not None:
            pins.append(f"torch=={torch}")
        self._pins = folder / "pins.txt"
        self._pins.write_text("\n".join(pins))

    def install(self, *what: str | Path) -> None:
        """Install the wheel with its dependencies, at the versions in requirements.lock."""
        pip = [str(self.bin / "python"), "-m", "pip", "install", "--quiet", "-c", str(self._pins)]
        run(f"install {' '.join(Path(w).name for w in what)}", [*pip, *map(str, what)], self.work)

    def run(self, name: str, program: str, *arguments: str) -> str:
        """What a program of the environment prints."""
        return run(name, [str(self.bin / program), *arguments], cwd=self.work)


def lock_lines() -> list[str]:
    """The pins of requirements.lock, without hashes: the wheel itself has none there."""
    return list(map(str, pins((ROOT / "requirements.lock").read_text("utf-8"))))


LOOK = """
import hashlib, json, pathlib, sys
import egl_fast
from egl_fast import _extension, _native
libraries = [pathlib.Path(_native.module().__file__), _native.OPERATORS]
_extension.operators().ctc_beam_search
print(json.dumps({
    "package": egl_fast.__file__,
    "libraries": {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in libraries
    },
}))
"""


def check_import(environment: Environment, wheel: Path) -> None:
    """Check that imports come from what was installed, down to the native code's bytes."""
    loaded = json.loads(environment.run("import", "python", "-W", "error", "-c", LOOK))
    venv = str(environment.bin.parent.resolve())
    for file in (loaded["package"], *loaded["libraries"]):
        if not os.path.realpath(file).startswith(venv) or "site-packages" not in file:
            raise BrokenError(f"{file} was imported, which is not the installed package's")
    with zipfile.ZipFile(wheel) as archive:
        built = {
            name: hashlib.sha256(archive.read(name)).hexdigest() for name in (OPERATORS, MODULE)
        }
    for library, digest in loaded["libraries"].items():
        if built[f"egl_fast/{Path(library).name}"] != digest:
            raise BrokenError(f"{library} is not the wheel's")


def check_commands(environment: Environment) -> None:
    """`doctor`, `score` with the shipped model and `select`, without the extras' packages."""
    report = json.loads(environment.run("doctor", "egl-fast", "doctor", "--json"))
    print(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    print(f"{report['platform']}, {report['extension']['instruction_set']}")
    shutil.copytree(ROOT / "examples", environment.work / "examples")
    pool = environment.work / "examples/few.jsonl"
    lines = (ROOT / "examples/pool.jsonl").read_text("utf-8").splitlines(keepends=True)
    pool.write_text("".join(lines[:4]), "utf-8")
    environment.run(
        "score", "egl-fast", "score", "--model", "examples/base.pt", "--pool", str(pool),
        "--k", "10", "--out", "scores.jsonl",
    )  # fmt: skip
    records = records_of(environment.work / "scores.jsonl")
    if not (len(records) == 4 and all(record["egl"] > 0.0 for record in records)):
        raise BrokenError(f"score: {[record['egl'] for record in records]}")
    by_egl = ("--budget", "2", "--strategy", "egl")
    chosen = environment.run("select", "egl-fast", "select", "scores.jsonl", *by_egl)
    best = sorted((record["egl"] for record in records), reverse=True)[:2]
    if [json.loads(line)["egl"] for line in chosen.splitlines()] != best:
        raise BrokenError("select does not pick the two of largest egl")


def records_of(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def run_tests(environment: Environment, all_of_them: bool) -> None:
    """Tests, copied to where nothing of the source folder can be imported."""
    environment.install(
        *(f"egl-fast[{extra}]" for extra in ("report", "select", "simulate")), *TEST_PACKAGES
    )
    shutil.copytree(ROOT / "python_tests", environment.work / "python_tests")
    shutil.copy2(ROOT / "pyproject.toml", environment.work)
    select = ["-k", "not emulated", "-m", "not slow", "-p", "no:cacheprovider"]
    if all_of_them:
        ignored = [f"--ignore=python_tests/{name}" for name in TESTS_OF_THE_TREE]
        which = ["python_tests", *ignored]
    else:
        which = [f"python_tests/{name}" for name in TESTS]
    printed = environment.run("tests", "python", "-m", "pytest", "-q", *select, *which)
    print(printed.splitlines()[-1])


def run(name: str, command: list[str], cwd: Path) -> str:
    """What a command prints; says how long it took, and shows everything where it fails."""
    start = time.monotonic()
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=cwd, env={**variables, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise BrokenError(f"{name}: exit status {done.returncode}")
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
