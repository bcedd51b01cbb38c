"""report.md of a folder that gpu_report.py fills: the results so far."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from script import read_json, table


def render(folder: Path, steps: Sequence[str]) -> str:
    """The report in Markdown."""
    results = {step: _read(folder / f"{step}.json") for step in steps}
    gpu = _read(folder / "gpu.json") or {}
    lines = [f"# egl-fast {gpu.get('commit', 'unknown')} on a GPU", ""]
    lines += rows_of(
        [{"step": step, "outcome": outcome(result)} for step, result in results.items()],
        ["step", "outcome"],
    )
    for step, result in results.items():
        lines += ["", f"## {step}", ""]
        lines += list(_SECTIONS.get(step, _steps)(result or {})) if result else ["Not run."]
    lines += ["", "## nvidia-smi", "", "```", str(gpu.get("nvidia_smi", "")).rstrip(), "```", ""]
    return "\n".join(lines)


def outcome(result: Mapping[str, Any] | None) -> str:
    """Of a step, in a word or two."""
    if result is None:
        return "not run"
    if "error" in result:
        return f"failed: {result['error']}"
    return "passed" if result["ok"] else "**failed**"


def _read(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _steps(result: Mapping[str, Any]) -> Iterator[str]:
    yield from rows_of(result.get("steps", []), ["name", "status", "seconds"])


def _tests(result: Mapping[str, Any]) -> Iterator[str]:
    if "tests" not in result:
        return
    yield (
        f"{result['tests']} tests, {len(result['failed'])} failed, {result['skipped']} skipped, "
        f"in {len(result['processes'])} processes."
    )
    alone = result.get("failed_alone", result["failed"])
    for name in result["failed"]:
        also = "" if name in alone else " (passes alone)"
        yield f"- failed: `{name}`{also}"


def _sanitizer(result: Mapping[str, Any]) -> Iterator[str]:
    for tool, found in result.items():
        if isinstance(found, dict):
            yield f"### {tool}"
            yield ""
            yield from _tests(found)
            summaries = found.get("summaries", [])
            yield f"- summaries: {', '.join(sorted(set(summaries))) or 'none'}"
            yield ""


def _parts(result: Mapping[str, Any]) -> Iterator[str]:
    yield from _steps(result)
    for name, part in (result.get("parts") or {}).items():
        yield f"\n### {name}\n"
        if isinstance(part, dict) and "error" in part:
            yield f"Failed: `{part['error']}`"
        elif isinstance(part, dict) and any(isinstance(x, (dict, list)) for x in part.values()):
            yield f"```json\n{json.dumps(part, indent=1)}\n```"
        else:
            rows = part if isinstance(part, list) else [part]
            columns = list(dict.fromkeys(key for row in rows for key in row))
            yield from rows_of(rows, columns)


_SECTIONS = {
    "tests": _tests,
    "sanitizer": _sanitizer,
    "agreement": _parts,
    "timings": _parts,
}


def rows_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Iterator[str]:
    """A table of some columns."""
    return table(columns, ([cell(row.get(column)) for column in columns] for row in rows))


def cell(value: Any) -> str:
    """A number to four digits; None is empty."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
