"""Options, fixtures and the report of the benchmark suite.

    python -m pytest benchmarks [--quick] [--enforce] [--benchmark-json FILE]

pytest-benchmark times and writes; what its JSON holds of machine, contenders and figures is added
here, and raw rounds are taken out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import must_hold
import pytest
import torch
from contest import Contest
from machine import ROOT, machine
from pytest_benchmark.fixture import BenchmarkFixture
from settings import FULL, QUICK, Settings

from egl_fast.compute.memory import keep_freed_memory

_FIGURES = pytest.StashKey[dict[str, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite."""
    group = parser.getgroup("egl-fast benchmarks")
    group.addoption("--quick", action="store_true", help="small sizes, no verdicts")
    group.addoption("--enforce", action="store_true", help="fail where a figure does not hold")
    group.addoption("--model", default=ROOT / "examples" / "base.pt", type=Path)
    group.addoption("--pool", default=ROOT / "examples" / "pool.jsonl", type=Path)


def pytest_configure(config: pytest.Config) -> None:
    """Once a run."""
    config.stash[_FIGURES] = {}
    keep_freed_memory()  # as the commands do; all contenders are served alike
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
def contest(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture, settings: Settings
) -> Contest:
    """What a benchmark measures with."""
    plugins = request.config.pluginmanager
    reporter, capture = (plugins.get_plugin(n) for n in ("terminalreporter", "capturemanager"))
    started = time.perf_counter()

    def write_line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(f"{text}  [{time.perf_counter() - started:.0f} s]")

    return Contest(benchmark, settings, request.config.stash[_FIGURES], write_line)


def settings_of(config: pytest.Config) -> Settings:
    """Sizes that the command line asks for."""
    return QUICK if config.getoption("--quick") else FULL


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases of the engine's benchmarks, whose number depends on the sizes."""
    cases = getattr(metafunc.module, "CASES", {}).get(metafunc.function.__name__)
    if cases is not None:
        metafunc.parametrize("case", cases(settings_of(metafunc.config)), ids=str)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """What matters of the machine; its name on the network does not."""
    machine_info.clear()
    machine_info.update(machine())


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    """Take raw rounds and options out; the rest is what docs/performance.md is made from."""
    output_json["quick"] = bool(config.getoption("--quick"))
    for entry in output_json["benchmarks"]:
        stats = entry["stats"]
        entry["stats"] = {key: stats[key] for key in ("median", "q1", "q3", "rounds")}
        for key in ("options", "fullname", "params", "param"):
            del entry[key]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The verdicts."""
    figures = config.stash[_FIGURES]
    terminalreporter.section("what must hold")
    for line in must_hold.table(figures, judged=_judged(config)):
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Exit status 1 where a figure does not hold."""
    config = session.config
    if (
        config.getoption("--enforce")
        and _judged(config)
        and exitstatus == pytest.ExitCode.OK
        and must_hold.missed(config.stash[_FIGURES])
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _judged(config: pytest.Config) -> bool:
    """Whether sizes and timing are those that the floors were set for."""
    return not config.getoption("--quick") and not config.getoption("benchmark_disable")
