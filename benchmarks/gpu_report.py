"""Everything we want to know about egl-fast on an NVIDIA GPU, in one folder to send back.

    python3 benchmarks/gpu_report.py                       # all steps, about half an hour
    python3 benchmarks/gpu_report.py tests sanitizer       # some of them again
    python3 benchmarks/gpu_report.py --python python3      # no network: installed packages

Steps, in this order:

    build      both halves of the extension for this GPU's architecture, then `egl-fast doctor`
    tests      everything marked `cuda`, the operators first, each file in its own processes
    agreement  the GPU's results against the CPU's, on the sample pool
    sanitizer  compute-sanitizer's memcheck, racecheck and synccheck on the operators' tests
    timings    kernels and the whole pipeline, compared with what the hardware could do

Every step writes FOLDER/STEP.json and its logs as it goes, and FOLDER/report.md shows the results
so far; a step can be repeated alone, and a failed one does not keep the others from running. The
exit status is 1 if a step failed, 2 if there is no GPU.

Without --python, the first step makes .venv from requirements.lock, for which it needs a network.
docs/gpu-runbook.md says what to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_report_page import render
from script import ROOT, read_json, write_json

#: Tests per process. After a kernel faults, every later launch of its process fails, too.
TESTS_PER_PROCESS = 40

#: The operators are tested first: everything else is built on them.
OPERATORS = "test_cuda_halves.py"

SANITIZERS = ("memcheck", "racecheck", "synccheck")


class NothingToRunOnError(Exception):
    """One line: what is missing, and what to do about it."""


@dataclass(frozen=True)
class Report:
    """What the steps share.

    Attributes:
        folder: where results and logs go.
        python: the interpreter that has torch; None until the first step has made .venv.
        jobs: processes at once, except for timings.
        limit: seconds that a process may take.
        repeats: of the pool, for throughput.
        tools: of compute-sanitizer.
        every: compute-sanitizer gets one in this many of the operators' tests.
    """

    folder: Path
    python: str | None
    jobs: int
    limit: float
    repeats: int
    tools: tuple[str, ...] = SANITIZERS
    every: int = 1

    def interpreter(self) -> str:
        """The interpreter that has torch."""
        return self.python or str(ROOT / ".venv/bin/python")

    def write(self, step: str, result: dict[str, Any]) -> None:
        """Save what a step has so far."""
        write_json(self.folder / f"{step}.json", result)

    def run(self, name: str, command: Sequence[str], **environment: str) -> dict[str, Any]:
        """Run a command in the source folder, its output in FOLDER/NAME.log.

        Returns:
            ``name``, ``status`` (-9 after ``limit`` seconds) and ``seconds``.
        """
        log = self.folder / f"{name}.log"
        start = time.monotonic()
        variables = {**os.environ, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
        with log.open("w") as printed:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**variables, **environment},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                # First like Ctrl-C, so that pytest and compute-sanitizer report what they have.
                os.killpg(process.pid, signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = -9
        seconds = round(time.monotonic() - start, 1)
        print(f"  {name}: status {status}, {seconds} s", flush=True)
        return {"name": name, "status": status, "seconds": seconds}

    def run_all(
        self, commands: dict[str, list[str]], told: Callable[[dict[str, Any]], None]
    ) -> None:
        """Run commands, ``jobs`` at once, and call ``told`` with each result."""
        with ThreadPoolExecutor(self.jobs) as pool:
            for done in pool.map(lambda item: self.run(*item), commands.items()):
                told(done)


def python_path() -> str:
    """The source folder, then the caller's."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps that were asked for; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; or all")
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu-report", metavar="FOLDER")
    parser.add_argument("--python", help="an interpreter with torch; nothing gets installed")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for one process")
    parser.add_argument("--repeats", type=int, default=20, help="of the pool, for throughput")
    parser.add_argument("--tools", nargs="+", choices=SANITIZERS, default=SANITIZERS)
    parser.add_argument("--every", type=int, default=1, help="sanitize one in this many tests")
    parser.add_argument(
        "--without-gpu", action="store_true", help="rehearse on a CPU, as far as possible"
    )
    options = parser.parse_args(arguments)
    unknown = [step for step in options.steps if step not in STEPS]
    if unknown:
        parser.error(f"{unknown[0]}: no such step; there are {', '.join(STEPS)}")
    folder = options.out.resolve()
    report = Report(
        folder,
        options.python,
        options.jobs,
        options.limit,
        options.repeats,
        tuple(options.tools),
        options.every,
    )
    try:
        gpu = {"nvidia_smi": "", "architecture": "90"} if options.without_gpu else require_gpu()
    except NothingToRunOnError as error:
        print(f"gpu_report: {error}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    report.write("gpu", {**gpu, "commit": commit()})
    failed = []
    for step in options.steps or STEPS:
        print(f"{step} ...", flush=True)
        result: dict[str, Any] = {"ok": False}
        try:
            result = STEPS[step](report)
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {error}"
            print(f"  {result['error']}", flush=True)
        report.write(step, result)
        failed += [] if result["ok"] else [step]
        (folder / "report.md").write_text(render(folder, list(STEPS)))
    print(f"{folder}/report.md" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def require_gpu() -> dict[str, str]:
    """What nvidia-smi says, and the compute capability of the first GPU, such as "90".

    Raises:
        NothingToRunOnError: there is no driver, or no GPU.
    """

    def said(*arguments: str) -> str:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True)
        return done.stdout + ("" if done.returncode == 0 else f" {done.stderr}")

    try:
        listed = said("-L")
    except FileNotFoundError:
        raise NothingToRunOnError(
            "nvidia-smi: not found; this needs a GPU and NVIDIA's driver"
        ) from None
    if not listed.startswith("GPU"):
        found = " ".join(listed.split()) or "it prints nothing"
        raise NothingToRunOnError(f"nvidia-smi lists no GPU: {found}")
    capability = said("--query-gpu=compute_cap", "--format=csv,noheader").split()[0]
    return {"nvidia_smi": said(), "architecture": capability.replace(".", "")}


def commit() -> str:
    """Of the source folder, marked if anything was changed; a copy may have none."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def build(report: Report) -> dict[str, Any]:
    """The first step."""
    steps = []
    if report.python is None:
        steps.append(report.run("venv", ["make", "venv"]))
    python = report.interpreter()
    architecture = read_json(report.folder / "gpu.json")["architecture"]
    steps.append(
        report.run(
            "build",
            [python, "setup.py", "build_ext", "--inplace", "--force"],
            EGL_CUDA="on",
            EGL_CUDA_ARCHS=architecture,
        )
    )
    steps.append(report.run("doctor", [python, "-m", "egl_fast", "doctor", "--json"]))
    return {
        "ok": all(step["status"] == 0 for step in steps),
        "steps": steps,
        "doctor": parsed((report.folder / "doctor.log").read_text()),
    }


def parsed(text: str) -> Any:
    """The JSON object in a text, or None."""
    try:
        return json.loads(text[text.find("{") :])
    except json.JSONDecodeError:
        return None


def cuda_tests(report: Report) -> list[str]:
    """Names of all tests marked `cuda`, the operators' first; collected once.

    Raises:
        RuntimeError: they cannot be collected.
    """
    collected = report.folder / "cuda-tests.txt"
    if not collected.exists():
        options = ["-m", "cuda", "--collect-only", "-q", "--continue-on-collection-errors"]
        report.run("collect", [*pytest_of(report), "python_tests", *options])
        lines = (report.folder / "collect.log").read_text().splitlines()
        names = [line for line in lines if line.startswith("python_tests/") and "::" in line]
        if not names:
            raise RuntimeError("no tests marked cuda were collected; see collect.log")
        names.sort(key=lambda name: OPERATORS not in name)
        collected.write_text("\n".join(names) + "\n")
    return collected.read_text().splitlines()


def pytest_of(report: Report) -> list[str]:
    """pytest without plugins that are of no use here."""
    return [report.interpreter(), "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]


def processes_of(names: Sequence[str], size: int) -> dict[str, list[str]]:
    """Tests by the process they run in: each from one file, and at most ``size``."""
    by_file: dict[str, list[str]] = {}
    for name in names:
        by_file.setdefault(Path(name.partition("::")[0]).stem, []).append(name)
    return {
        f"{stem}-{start // size}": of_file[start : start + size]
        for stem, of_file in by_file.items()
        for start in range(0, len(of_file), size)
    }


def tests(report: Report) -> dict[str, Any]:
    """The second step. Tests that failed run again alone, which tells which ones are at fault."""
    result = run_tests(report, processes_of(cuda_tests(report), TESTS_PER_PROCESS), "tests", [])
    alone = {f"alone-{n}": [name] for n, name in enumerate(result["failed"][:40])}
    if alone:
        again = run_tests(report, alone, "tests", [])
        result["failed_alone"] = again["failed"]
    return result


def run_tests(
    report: Report, processes: dict[str, list[str]], step: str, tool: Sequence[str]
) -> dict[str, Any]:
    """Run tests, each process under ``tool`` if there is one, and return their outcomes."""
    result: dict[str, Any] = {"ok": True, "tests": 0, "failed": [], "skipped": 0, "processes": []}
    commands = {}
    for name, chosen in processes.items():
        xml = report.folder / f"{step}-{name}.xml"
        xml.unlink(missing_ok=True)
        commands[f"{step}-{name}"] = [
            *(*tool, *pytest_of(report), "-v", "--tb=short", f"--junitxml={xml}"),
            *chosen,
        ]

    def told(done: dict[str, Any]) -> None:
        counts = test_counts(report.folder / f"{done['name']}.xml")
        chosen = processes[done["name"].removeprefix(f"{step}-")]
        if counts is None:  # the process died: any of its tests may be the cause
            counts = {"tests": 0, "failed": chosen, "skipped": 0}
        result["processes"].append({**done, **counts, "failed": len(counts["failed"])})
        for key in ("tests", "failed", "skipped"):
            result[key] += counts[key]
        result["ok"] = result["ok"] and done["status"] == 0
        report.write(step, {**result, "ok": False})

    report.run_all(commands, told)
    return result


def test_counts(junit: Path) -> dict[str, Any] | None:
    """How many tests there were, which failed, and how many were skipped."""
    if not junit.exists():
        return None
    cases = list(ElementTree.parse(junit).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]

    def name(case: ElementTree.Element) -> str:
        return f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"

    return {"tests": len(cases), "failed": [name(c) for c in failed], "skipped": len(skipped)}


def agreement(report: Report) -> dict[str, Any]:
    """The third step."""
    return by_script(report, "agreement", [])


def sanitizer(report: Report) -> dict[str, Any]:
    """The fourth step, for our own kernels only."""
    names = [name for name in cuda_tests(report) if OPERATORS in name][:: report.every]
    # Dealt out like cards, because neighbors in a file take about equally long.
    count = max(1, report.jobs // len(report.tools))
    processes = {f"operators-{n}": names[n::count] for n in range(min(count, len(names)))}
    result: dict[str, Any] = {"ok": True}

    def run(tool: str) -> dict[str, Any]:
        command = ["compute-sanitizer", "--tool", tool, *our_kernels_alone()]
        command += ["--error-exitcode", "9", "--print-limit", "20"]
        found = run_tests(report, processes, f"sanitizer-{tool}", command)
        logs = [report.folder / f"{done['name']}.log" for done in found["processes"]]
        found["summaries"] = [
            line for log in logs for line in log.read_text().splitlines() if "SUMMARY" in line
        ]
        return found

    with ThreadPoolExecutor(len(report.tools)) as pool:
        for tool, found in zip(report.tools, pool.map(run, report.tools), strict=True):
            result[tool] = found
            result["ok"] = result["ok"] and found["ok"]
    return result


def our_kernels_alone() -> list[str]:
    """compute-sanitizer's option for that, which has had several names."""
    done = subprocess.run(["compute-sanitizer", "--help"], capture_output=True, text=True)
    known = [
        name for name in ("--kernel-regex", "--kernel-name", "--filter") if name in done.stdout
    ]
    return [known[0], "kns=egl"] if known else []


def timings(report: Report) -> dict[str, Any]:
    """The fifth step, alone on the machine."""
    return by_script(report, "timings", ["--repeats", str(report.repeats)])


def by_script(report: Report, name: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run benchmarks/gpu_NAME.py, which writes its results as it goes."""
    written = report.folder / f"{name}.parts.json"
    written.unlink(missing_ok=True)
    script = ROOT / f"benchmarks/gpu_{name}.py"
    done = report.run(name, [report.interpreter(), str(script), "--out", str(written), *arguments])
    parts = parsed(written.read_text()) if written.exists() else None
    return {"ok": done["status"] == 0, "steps": [done], "parts": parts}


STEPS: dict[str, Callable[[Report], dict[str, Any]]] = {
    "build": build,
    "tests": tests,
    "agreement": agreement,
    "sanitizer": sanitizer,
    "timings": timings,
}


if __name__ == "__main__":
    sys.exit(main())
