"""Imports point from commands down to the native core, never up or in a circle."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "egl_fast"

PAGE = ROOT / "docs" / "how-it-works.md"


def layers():
    """The order of imports, top to bottom, as the page draws it."""
    section = PAGE.read_text(encoding="utf-8").partition("## Which part may import which\n")[2]
    drawing = section.partition("```text\n")[2].partition("```")[0]
    return [line.split() for line in drawing.splitlines()]


RANK = {unit: rank for rank, units in enumerate(reversed(layers())) for unit in units}

#: The slow twins are for checking against, never for falling back on.
MAY_IMPORT_REFERENCE = {"cli.doctor", "cli.check", "benchmarking.comparison"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@functools.cache
def imported(path):
    """Every module that a file imports, anywhere in it; ``from a import b`` counts as a.b."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own_imports(module):
    """The modules of egl_fast that a module imports, without the leading ``egl_fast.``."""
    return [
        name.removeprefix("egl_fast.")
        for name in imported(MODULES[module])
        if name.startswith("egl_fast.")
    ]


def foreign_imports(module):
    """Top-level packages that a module imports, except egl_fast and the standard library."""
    packages = {name.partition(".")[0] for name in imported(MODULES[module])}
    return packages - {"egl_fast"} - sys.stdlib_module_names


def unit(module):
    """What of the drawing a module is part of: a file or folder of egl_fast, or of evaluation."""
    room, folder, *_ = (*module.split("."), "")
    return f"{room}.{folder}" if room == "evaluation" and folder != "__init__" else room


def test_imports_point_down_the_drawing():
    # These import from all of their folder, or nothing.
    units = {unit(module) for module in MODULES} - {"__init__", "evaluation"}
    assert units == set(RANK), f"{PAGE.name} draws other files and folders than there are"
    upward = [
        f"{module} imports {name}"
        for module in MODULES
        for name in own_imports(module)
        if units.issuperset((unit(module), unit(name)))
        and unit(name) != unit(module)
        and RANK[unit(name)] >= RANK[unit(module)]
    ]
    assert upward == []


def test_nothing_but_checks_imports_the_reference():
    users = {
        module
        for module in MODULES
        if unit(module) != "reference"
        and any(unit(name) == "reference" for name in own_imports(module))
    }
    assert users <= MAY_IMPORT_REFERENCE


def test_the_reference_imports_torch_and_the_standard_library_alone():
    modules = [module for module in MODULES if unit(module) == "reference"]
    assert modules
    assert [m for m in modules if not foreign_imports(m) <= {"torch"}] == []
    assert [m for m in modules if {unit(name) for name in own_imports(m)} - {"reference"}] == []


def test_plain_modules_import_the_standard_library_alone():
    assert [m for m in ("errors", "records", "selection.ranking") if foreign_imports(m)] == []


def test_importing_does_not_load_torch():
    modules = ["egl_fast"]
    for name in ("decoder", "records", "selection", "cli.main", "cli.select", "cli.report"):
        modules.append(f"egl_fast.{name}")
    # What is loaded stays loaded: the first module that needs torch is the one to be named.
    code = "".join(
        f"import {name}\nif 'torch' in sys.modules: sys.exit('{name} loads torch')\n"
        for name in modules
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_native_core_sees_no_framework():
    files = sorted((ROOT / "csrc" / "core").iterdir())
    assert files
    wrong = []
    for path in files:
        includes = re.findall(r'^\s*#\s*include\s*([<"].*[>"])', path.read_text(), re.MULTILINE)
        wrong += [
            f"{path.name} includes {name}"
            for name in includes
            if (name.startswith('"') and not name.startswith('"csrc/core/'))
            or re.search("torch|ATen|c10|Python|pybind|cuda", name)
        ]
    assert wrong == []
