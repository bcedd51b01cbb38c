"""What the documentation promises: links lead somewhere, examples run, commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from egl_fast.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "csrc" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
    ROOT / "experiments" / "README.md",
    ROOT / "benchmarks" / "README.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    within = [link for link in links if "://" not in link]
    assert [link for link in within if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_fill_in(page: Path) -> None:
    assert "<!--" not in page.read_text(encoding="utf-8")


def test_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"egl-fast ([a-z]+)", text))
    assert named
    assert named <= set(COMMANDS)
    targets = set(re.findall(r"make ([a-z-]+)", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:.*## ", makefile, re.MULTILINE) for target in targets)


def test_findings_are_what_the_script_writes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "findings.md"
    command = [sys.executable, str(ROOT / "experiments" / "write_findings.py")]
    subprocess.run([*command, "--out", str(tmp_path / "findings.md")], check=True)
    assert (tmp_path / "findings.md").read_text("utf-8") == page.read_text("utf-8")


def test_performance_page_is_what_the_script_writes(tmp_path: Path) -> None:
    page = ROOT / "docs" / "performance.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "performance_page.py")]
    subprocess.run([*command, "--docs", str(tmp_path)], check=True)
    assert (tmp_path / "performance.md").read_text("utf-8") == page.read_text("utf-8")


@pytest.mark.slow
def test_the_python_of_the_readme_runs() -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 13  # 20 % of 64
