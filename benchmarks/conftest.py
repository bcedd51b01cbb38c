"""Options, fixtures, and results of the benchmarks.

python -m pytest benchmarks [--quick] [--enforce] [--results FILE]
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import must_hold
import pytest
import torch
from entry import Entry
from machine import machine
from script import MODEL, POOL, write_json
from settings import FULL, QUICK, Settings

from egl_fast.compute.memory import keep_freed_memory

_RESULTS = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the benchmarks."""
    group = parser.getgroup("egl-fast benchmarks")
    group.addoption("--quick", action="store_true", help="small sizes, no verdicts")
    group.addoption("--enforce", action="store_true", help="fail if a goal is missed")
    group.addoption("--results", type=Path, help="JSON file to write")
    group.addoption("--model", default=MODEL, type=Path)
    group.addoption("--pool", default=POOL, type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Once per run."""
    path: Path | None = config.getoption("--results")
    if path is not None:  # now rather than after all benchmarks
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise pytest.UsageError(f"--results {path}: {error.strerror}") from None
    quick = bool(config.getoption("--quick"))
    config.stash[_RESULTS] = {"machine": machine(), "quick": quick, "benchmarks": []}
    keep_freed_memory()  # as the commands do; whatever is compared benefits alike
    torch.set_num_threads(max(settings_of(config).threads))


@pytest.fixture(scope="session")
def settings(request: pytest.FixtureRequest) -> Settings:
    """Sizes of this run."""
    return settings_of(request.config)


@pytest.fixture(scope="session")
def model_file(request: pytest.FixtureRequest) -> Path:
    """The shipped model, or another of the built-in architecture."""
    path: Path = request.config.getoption("--model")
    return path


@pytest.fixture(scope="session")
def pool(request: pytest.FixtureRequest) -> Path:
    """The manifest of real speech."""
    path: Path = request.config.getoption("--pool")
    return path


@pytest.fixture
def entry(request: pytest.FixtureRequest) -> Iterator[Entry]:
    """The entry of this benchmark; it counts once something was timed."""
    plugins = request.config.pluginmanager
    reporter: Any = plugins.get_plugin("terminalreporter")
    capture: Any = plugins.get_plugin("capturemanager")
    started = time.perf_counter()

    def print_line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"{text}  [{time.perf_counter() - started:.0f} s]")

    entry = Entry(request.node.name, print_line)
    yield entry
    if "timings" in entry.facts:
        request.config.stash[_RESULTS]["benchmarks"].append(entry.facts)


def settings_of(config: pytest.Config) -> Settings:
    """Sizes that the command line asks for."""
    return QUICK if config.getoption("--quick") else FULL


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases whose number depends on the sizes."""
    cases = getattr(metafunc.module, "CASES", {}).get(metafunc.function.__name__)
    if cases is not None:
        metafunc.parametrize("case", cases(settings_of(metafunc.config)), ids=str)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The verdicts."""
    results = config.stash[_RESULTS]
    terminalreporter.section("what must hold")
    for line in must_hold.table(must_hold.figures(results), judged=not results["quick"]):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the results; exit status 1 if a goal is missed."""
    config = session.config
    results = config.stash[_RESULTS]
    path: Path | None = config.getoption("--results")
    if path is not None:
        write_json(path, results)
    if (
        config.getoption("--enforce")
        and not results["quick"]
        and exitstatus == pytest.ExitCode.OK
        and must_hold.missed(must_hold.figures(results))
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
