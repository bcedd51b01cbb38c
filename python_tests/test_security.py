"""docs/security.md: every line has a test; and those that have no other place."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from documentation import ROOT
from lock_hashes import hashes_of
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sbom import pins

from egl_fast.data.jsonl import JsonlWriter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINES = [
    line
    for line in (ROOT / "docs/security.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| what |", "| ---"))
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[1].strip()[:40])
def test_every_line_names_tests_that_exist(line: str) -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", line.rpartition("|")[0].rpartition("|")[2])
    assert named
    for file, test in named:
        tree = ast.parse((ROOT / "python_tests" / file).read_text("utf-8"))
        assert test in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out.jsonl.partial").symlink_to(victim)
    with JsonlWriter(tmp_path / "out.jsonl") as writer:
        writer.write({"id": "a"})
    assert victim.read_text() == "mine"
    assert not (tmp_path / "out.jsonl").is_symlink()


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock"]
)
def test_every_pin_has_hashes(name: str) -> None:
    lock = (ROOT / name).read_text("utf-8")
    hashes = hashes_of(lock)
    assert {f"{pin.name}{pin.specifier}" for pin in pins(lock)} == set(hashes)
    assert all(hashes.values())


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_what_development_needs_is_pinned_for_every_python(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    here = {"python_version": python, "python_full_version": f"{python}.1"}
    wanted = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["dev"]])

    def applies(one: Requirement) -> bool:
        return one.marker is None or one.marker.evaluate(here)

    locked = list(filter(applies, pins((ROOT / "requirements.lock").read_text("utf-8"))))
    names = [canonicalize_name(pin.name) for pin in locked]
    assert len(set(names)) == len(names)
    versions = {
        name: next(iter(pin.specifier)).version for name, pin in zip(names, locked, strict=True)
    }
    for one in filter(applies, wanted):
        assert one.specifier.contains(versions[canonicalize_name(one.name)]), one
