"""What several test modules share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import engines
import pytest
from hypothesis import settings
from recordings import random_checkpoint, write_clips

from egl_fast.checkpoint import save_checkpoint
from egl_fast.cli.main import main

Run = Callable[..., tuple[int, str, str]]

# The same examples on every run, and no limit on how long a busy machine takes for one.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


ENGINES = [
    "emulated",
    *([pytest.param("cuda", marks=pytest.mark.cuda)] if engines.has_gpu() else []),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The operators' CUDA halves in the CPU halves' place."""
    with engines.using(request.param):
        yield request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not engines.has_gpu():
        for item in items:
            if item.get_closest_marker("cuda") is not None:
                item.add_marker(pytest.mark.skip(reason="no GPU that egl_fast can use here"))


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of the shipped sample."""
    return Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of the preset `tiny` with random weights."""
    path = tmp_path_factory.mktemp("model") / "tiny.pt"
    save_checkpoint(path, random_checkpoint())
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A manifest of four made-up clips of different lengths, each with a text."""
    return write_clips(tmp_path, ["ab", "no", "ab", "no"], [0.5, 0.8, 0.65, 0.45])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the command in this process: exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["egl-fast", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what hostile tests print from ending the processes that they run in.

    Those send reports to each other in UTF-8, which half of a surrogate pair has no form in.
    """
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
