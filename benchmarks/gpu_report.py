"""All that is to be known of egl_fast on a machine with an NVIDIA GPU, in one folder to send back.

    python3 benchmarks/gpu_report.py [--out FOLDER]

From a fresh clone: makes .venv, builds both halves (EGL_CUDA=on), runs the tests on the GPU,
compares its results with the CPU's, measures, and writes report.md and report.json, with the logs
beside them. Needs the NVIDIA driver, nvcc and g++; takes about an hour. Stops with one line where
there is no GPU. A step that fails is reported, and the others are done all the same; then the exit
status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv/bin/python"


class NoGpuError(Exception):
    """One line: what is missing, and what helps."""


def main() -> int:
    """Run all steps; see above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu-report", metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=20, help="of the pool, for throughput")
    options = parser.parse_args()
    folder = options.out.resolve()
    try:
        nvidia_smi = require_gpu()
        folder.mkdir(parents=True, exist_ok=True)
        report: dict[str, Any] = {"commit": commit(), "nvidia_smi": nvidia_smi, "steps": []}
        steps = Steps(folder, report["steps"])
        steps.run("venv", ["make", "venv"])
        require_torch_with_cuda()
    except NoGpuError as error:
        print(f"gpu_report: {error}", file=sys.stderr)
        return 2
    # The stamp may be of a build without CUDA.
    (ROOT / "build/.extension-built").unlink(missing_ok=True)
    steps.run("build", ["make", "build", "emulated"], EGL_CUDA="on")
    doctor = steps.run("doctor", [str(PYTHON), "-m", "egl_fast", "doctor", "--json"])
    report["doctor"] = parsed(doctor)
    tests = folder / "tests.xml"
    tests.unlink(missing_ok=True)
    steps.run("tests", [str(PYTHON), "-m", "pytest", "python_tests", f"--junitxml={tests}"])
    report["tests"] = test_counts(tests)
    measured = folder / "measurements.json"
    measured.unlink(missing_ok=True)
    steps.run(
        "measurements",
        [
            *(str(PYTHON), "benchmarks/gpu_measurements.py"),
            *("--out", str(measured), "--repeats", str(options.repeats)),
        ],
    )
    report["measurements"] = parsed(measured.read_text() if measured.exists() else "")
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    (folder / "report.md").write_text(render(report))
    print(f"{folder}/report.md; please send the folder back")
    return 0 if succeeded(report) else 1


def require_gpu() -> str:
    """What nvidia-smi says.

    Raises:
        NoGpuError: it says nothing, or lists no GPU.
    """
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except FileNotFoundError:
        raise NoGpuError("nvidia-smi: not found; this needs a GPU, and NVIDIA's driver") from None
    if listed.returncode != 0 or "GPU" not in listed.stdout:
        said = " ".join((listed.stdout + listed.stderr).split())
        raise NoGpuError(f"nvidia-smi lists no GPU: {said or 'it prints nothing'}")
    return subprocess.run(["nvidia-smi"], capture_output=True, text=True).stdout


def require_torch_with_cuda() -> None:
    """Raises NoGpuError unless the torch of .venv can use the GPU."""
    code = (
        "import torch, sys\n"
        "if torch.version.cuda is None: sys.exit('is a CPU build')\n"
        "if not torch.cuda.is_available(): sys.exit('finds no GPU')\n"
    )
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["cannot be loaded"]
        raise NoGpuError(
            f"the torch in .venv: {said[0]}; install a CUDA build that fits the driver there "
            "(.venv/bin/pip install --force-reinstall torch==...), and run this again"
        )


class Steps:
    """Runs commands in the source folder, each with a log of its own.

    Args:
        folder: of the logs.
        done: receives what became of each step.
    """

    def __init__(self, folder: Path, done: list[dict[str, Any]]) -> None:
        self._folder, self._done = folder, done

    def run(self, name: str, command: list[str], **environment: str) -> str:
        """What the command printed."""
        log = self._folder / f"{name}.log"
        print(f"{name}: {' '.join(command)}\n  log: {log}", flush=True)
        start = time.monotonic()
        with log.open("w") as printed:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
        seconds = time.monotonic() - start
        print(f"  status {done.returncode}, {seconds:.0f} s", flush=True)
        self._done.append({"name": name, "status": done.returncode, "seconds": round(seconds, 1)})
        return log.read_text()


def commit() -> str:
    """Of the source folder, and whether anything was changed."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return described.stdout.strip() or "unknown"


def parsed(text: str) -> Any:
    """The JSON object in a text, or None where there is none."""
    try:
        return json.loads(text[text.find("{") :])
    except json.JSONDecodeError:
        return None


def test_counts(junit: Path) -> dict[str, Any] | None:
    """How many tests there were, and how many of them used the GPU."""
    if not junit.exists():
        return None
    cases = list(ElementTree.parse(junit).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    on_gpu = [c for c in cases if "cuda" in f"{c.get('classname')}.{c.get('name')}"]
    return {
        "tests": len(cases),
        "failed": [f"{c.get('classname')}::{c.get('name')}" for c in failed],
        "skipped": len(skipped),
        "on_gpu": len([c for c in on_gpu if c not in skipped]),
    }


def succeeded(report: dict[str, Any]) -> bool:
    """Whether every step did, and tests ran on the GPU."""
    tests = report["tests"]
    return all(step["status"] == 0 for step in report["steps"]) and bool(tests and tests["on_gpu"])


def render(report: dict[str, Any]) -> str:
    """The report for people."""
    measured = report["measurements"] or {}
    verdict = "Everything passed." if succeeded(report) else "**Something failed, see below.**"
    lines = [f"# egl-fast {report['commit']} on a GPU", "", verdict, ""]
    for name in ("gpu", "machine"):
        facts = measured.get(name, {})
        lines += [f"- {key}: {value}" for key, value in facts.items()]
    lines += ["", "## Steps", "", *table(report["steps"], ["name", "status", "seconds"])]
    tests = report["tests"]
    if tests:
        lines += [
            "",
            f"{tests['tests']} tests, {tests['on_gpu']} of them on the GPU or of what it needs, "
            f"{tests['skipped']} skipped, {len(tests['failed'])} failed.",
            *(f"- failed: `{name}`" for name in tests["failed"]),
        ]
    lines += [
        *section("Results against the CPU's", measured.get("agreement"), AGREEMENT_COLUMNS),
        *section("The same bits twice", measured.get("repeatable"), ["utterances", "different"]),
        *section("The fused operator in a CUDA graph", measured.get("graph"), ["holds"]),
        *section("Operators", measured.get("operators"), OPERATOR_COLUMNS),
        *section("From audio files to records", measured.get("throughput"), THROUGHPUT_COLUMNS),
    ]
    if isinstance(measured.get("profile"), str):
        lines += ["", "## Where exact scoring's time goes", "", "```", measured["profile"], "```"]
    lines += ["", "## nvidia-smi", "", "```", report["nvidia_smi"].rstrip(), "```", ""]
    return "\n".join(lines)


AGREEMENT_COLUMNS = [
    *("what", "utterances", "labelings_in_common", "same_best_labeling", "sq_grad_norm"),
    *("egl", "egl_normalized", "beam_mass", "entropy", "promised", "holds"),
]
OPERATOR_COLUMNS = [
    *("what", "shape", "largest_difference", "holds", "cpu_seconds", "gpu_seconds", "times"),
]
THROUGHPUT_COLUMNS = [
    *("model", "method", "egl", "utterances", "utterances_per_second", "audio_per_second"),
    *("cpu_audio_per_second", "times", "peak_memory_bytes"),
]


def section(title: str, part: Any, columns: list[str]) -> list[str]:
    """A part of the measurements as a table, or what became of it."""
    lines = ["", f"## {title}", ""]
    if part is None:
        return [*lines, "Not measured."]
    if isinstance(part, dict) and "error" in part:
        return [*lines, f"Failed: `{part['error']}`"]
    return lines + table(part if isinstance(part, list) else [part], columns)


def table(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """In Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in rows:
        lines.append(f"| {' | '.join(cell(row.get(column)) for column in columns)} |")
    return lines


def cell(value: Any) -> str:
    """A number to four digits, and nothing for nothing."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
