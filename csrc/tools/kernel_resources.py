"""Compiles every CUDA kernel, and compares the resources it uses with docs/cuda-resources.txt.

    python csrc/tools/kernel_resources.py [--architectures 90] [--write]

Warnings are errors. Exit status: 0 if nothing changed or there is no nvcc, 1 if the report differs
or a kernel spills that must not, 2 if something does not compile.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import nvcc as cuda

REPORT = Path("docs/cuda-resources.txt")
BUILD = Path("build/cuda/resources")

# No kernel may spill registers to memory here.
WITHOUT_SPILLS = 90

# One architecture is compiled with its host code, for the warnings of the host compiler.
WITH_HOST_CODE = 90

_HEADER = """\
What each kernel takes of a GPU: registers a thread; then, where there are any, +S for S bytes of
stack a thread, !L/S for L bytes of spill loads and S of spill stores, and ~M for M bytes of static
shared memory a block. Dynamic shared memory depends on the problem: see the kernel.
Written by csrc/tools/kernel_resources.py --write; compiled, never run.
"""


@dataclass(frozen=True, order=True)
class Resources:
    """Of one kernel on one architecture, as printed by ptxas -v."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    static_shared: int

    def __str__(self) -> str:
        text = str(self.registers)
        if self.stack:
            text += f"+{self.stack}"
        if self.spill_loads or self.spill_stores:
            text += f"!{self.spill_loads}/{self.spill_stores}"
        if self.static_shared:
            text += f"~{self.static_shared}"
        return text


Report = dict[str, dict[int, Resources]]  # by kernel and architecture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", help="such as 90;120; by default all that are supported")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT}")
    options = parser.parse_args()
    try:
        nvcc = cuda.find()
    except cuda.NvccError as error:
        print(f"{error}: skipping the kernels")
        return 0
    try:
        architectures = cuda.chosen_architectures(nvcc, options.architectures)
        found = compile_and_measure(nvcc, architectures)
    except cuda.NvccError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 2
    count = f"{len(found)} kernels for sm_{', sm_'.join(map(str, architectures))}"
    spilling = sorted(
        kernel
        for kernel, by_architecture in found.items()
        if (of := by_architecture.get(WITHOUT_SPILLS)) and of.spill_loads + of.spill_stores
    )
    if spilling:
        print(f"kernels that spill at sm_{WITHOUT_SPILLS}: {', '.join(spilling)}", file=sys.stderr)
    written = render(found, nvcc.version, architectures)
    if options.write:
        if options.architectures is not None:
            parser.error("--write reports all architectures")
        (cuda.ROOT / REPORT).write_text(written)
        print(f"{REPORT}: {count}")
        return 1 if spilling else 0
    return 1 if spilling else compare(written, count)


def compare(written: str, count: str) -> int:
    """Prints how `written` differs from the committed report, of the same architectures."""
    path = cuda.ROOT / REPORT
    committed = path.read_text() if path.exists() else ""
    expected = narrowed(committed, written)
    got = written.splitlines()
    if version_of(committed) != version_of(written):
        print(
            f"{count} compile; not compared, because {REPORT} was made by {version_of(committed)} "
            f"and this is {version_of(written)}"
        )
        return 0
    if expected == got:
        print(f"{count} compile and match {REPORT}")
        return 0
    changes = difflib.unified_diff(expected, got, str(REPORT), "compiled", lineterm="", n=0)
    print("\n".join(changes), file=sys.stderr)
    print(
        f"{REPORT} differs; to accept this: python csrc/tools/kernel_resources.py --write",
        file=sys.stderr,
    )
    return 1


def compile_and_measure(nvcc: cuda.Nvcc, architectures: tuple[int, ...]) -> Report:
    flags = cuda.flags(cuda.torch_include_folders())
    jobs = []
    for source in cuda.cuda_sources():
        for architecture in architectures:
            stem = BUILD / f"sm_{architecture}" / source.stem
            with_host = architecture == WITH_HOST_CODE
            arguments = (*flags, f"-arch=sm_{architecture}", "-Xptxas=-v")
            arguments += ("-c",) if with_host else ("-cubin",)
            suffix = ".o" if with_host else ".cubin"
            jobs.append(
                cuda.Compilation(
                    source, stem.with_suffix(suffix), arguments, stem.with_suffix(".log")
                )
            )
    cuda.compile_changed(nvcc, jobs, BUILD / "build.ninja")
    logs = [(cuda.ROOT / job.log).read_text() for job in jobs if job.log is not None]
    measured = [entry for log in logs for entry in parse_log(log)]
    names = short_names({mangled for mangled, _, _ in measured})
    report: Report = defaultdict(dict)
    for mangled, architecture, resources in measured:
        # Several sources may compile the same kernel; the worst counts.
        of_kernel = report[names[mangled]]
        of_kernel[architecture] = max(resources, of_kernel.get(architecture, resources))
    return dict(report)


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)'")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers(?:.*?, (\d+) bytes smem)?")


def parse_log(log: str) -> list[tuple[str, int, Resources]]:
    """Mangled name, architecture and resources of each kernel in what ptxas -v printed.

    Spills of functions that a kernel calls, which are printed after it, are counted as its own.
    """
    kernels = []
    for section in re.split(r"(?=ptxas info +: Compiling entry function)", log):
        entry = _ENTRY.search(section)
        registers = _REGISTERS.search(section)
        if entry is None or registers is None:
            continue
        memory = [tuple(map(int, sizes)) for sizes in _MEMORY.findall(section)]
        stack, stores, loads = (sum(column) for column in zip(*memory, strict=True))
        kernels.append(
            (
                entry[1],
                int(entry[2]),
                Resources(int(registers[1]), stack, stores, loads, int(registers[2] or 0)),
            )
        )
    return kernels


def short_names(mangled: set[str]) -> dict[str, str]:
    """By mangled name: without result, parameters and our own namespaces."""
    ordered = sorted(mangled)
    done = subprocess.run(
        ["c++filt"], input="\n".join(ordered), capture_output=True, text=True, check=True
    )
    return {name: short(text) for name, text in zip(ordered, done.stdout.splitlines(), strict=True)}


def short(demangled: str) -> str:
    name = re.sub(r"\(anonymous namespace\)::|\b(?:egl|ops|cuda)::", "", demangled)
    depth = 0
    for start in reversed(range(len(name))):  # of the parameters
        depth += (name[start] == ")") - (name[start] == "(")
        if depth == 0:
            break
    return name[:start].removeprefix("void ")


def render(report: Report, version: str, architectures: tuple[int, ...]) -> str:
    rows = [["kernel", *(f"sm_{architecture}" for architecture in architectures)]]
    for kernel, by_architecture in sorted(report.items()):
        cells = [str(by_architecture.get(a, "-")) for a in architectures]
        rows.append([kernel, *cells])
    return "\n".join([*_HEADER.splitlines(), f"nvcc {version}", "", *table(rows), ""])


def table(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def version_of(report: str) -> str:
    found = re.search(r"^nvcc .*$", report, re.MULTILINE)
    return found[0] if found else "no version"


def narrowed(report: str, like: str) -> list[str]:
    """The lines of `report` with the architectures that `like` has."""
    lines = report.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("kernel ")), None)
    if start is None:
        return lines
    rows = [re.split(r"\s{2,}", line) for line in lines[start:]]
    wanted = re.findall(r"\bsm_\d+", like)
    kept = [i for i, name in enumerate(rows[0]) if i == 0 or name in wanted]
    return lines[:start] + table([[row[i] for i in kept] for row in rows])


if __name__ == "__main__":
    sys.exit(main())
