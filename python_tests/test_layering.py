"""Which way imports point: from commands down to the native core, never up, never around."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "egl_fast"

#: Bottom to top. A module imports from lower layers and from its own package only; what stands in
#: one line does not know the others there. A new module or package needs a place here.
LAYERS = [
    {"errors", "allocator", "kinds", "memory", "process_wide", "reference"},
    {
        "atomic",
        "escaping",
        "locking",
        "records",
        "run_settings",
        "vocabulary",
        "features",
        "packing",
        "precision",
        "products",
        "statistics",
        "_native",
    },
    {"_extension", "decoder", "torch_file"},
    {"cuda_diagnosis"},
    {"ops", "data", "devices", "selection"},
    {"model", "reporting"},
    {"recurrent", "checkpoint"},
    {"gradients"},
    {"estimation"},
    {"scoring"},
    {"scorer", "training"},
    {"simulation", "benchmarking"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}

#: The slow twins are there to check against, never to fall back on.
MAY_IMPORT_REFERENCE = {"cli.doctor", "cli.check", "benchmarking.contenders"}

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported(path):
    """Every module that a file imports anywhere in it; ``from a import b`` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(module):
    """The modules of egl_fast that one imports, without the leading ``egl_fast.``."""
    return [
        name.removeprefix("egl_fast.")
        for name in imported(MODULES[module])
        if name.startswith("egl_fast.")
    ]


def foreign_imports(module):
    """Top-level packages that a module imports, but egl_fast and the standard library."""
    packages = {name.partition(".")[0] for name in imported(MODULES[module])}
    return packages - {"egl_fast"} - sys.stdlib_module_names


def unit(module):
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    assert unit(module) in RANK, f"egl_fast/{unit(module)} has no place in LAYERS"
    upward = [
        name
        for name in own_imports(module)
        if unit(name) in RANK
        and unit(name) != unit(module)
        and RANK[unit(name)] >= RANK[unit(module)]
    ]
    assert not upward


def test_nothing_but_checks_imports_the_reference():
    users = {
        module
        for module in MODULES
        if unit(module) != "reference"
        and any(unit(name) == "reference" for name in own_imports(module))
    }
    assert users <= MAY_IMPORT_REFERENCE


@pytest.mark.parametrize("module", [name for name in MODULES if unit(name) == "reference"])
def test_the_reference_imports_torch_and_the_standard_library_alone(module):
    assert foreign_imports(module) <= {"torch"}
    assert {unit(name) for name in own_imports(module)} <= {"reference"}


@pytest.mark.parametrize("module", ["errors", "records", "selection"])
def test_plain_modules_import_the_standard_library_alone(module):
    assert not foreign_imports(module)


@pytest.mark.parametrize(
    "module",
    [
        "egl_fast",
        *(
            f"egl_fast.{name}"
            for name in ("decoder", "records", "selection", "cli.main", "cli.select", "cli.report")
        ),
    ],
)
def test_importing_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    "path", sorted((ROOT / "csrc" / "core").iterdir()), ids=lambda path: path.name
)
def test_the_native_core_sees_no_framework(path):
    includes = re.findall(r'^\s*#\s*include\s*([<"].*[>"])', path.read_text(), re.MULTILINE)
    own = [name for name in includes if name.startswith('"')]
    assert [name for name in own if not name.startswith('"csrc/core/')] == []
    assert [name for name in includes if re.search("torch|ATen|c10|Python|pybind|cuda", name)] == []
