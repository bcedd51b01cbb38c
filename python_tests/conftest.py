"""What several test modules share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engines
import pytest
import torch
from commands import contents, egl_fast, in_this_process
from hypothesis import settings
from places import Place
from recordings import random_checkpoint, write_recordings

from egl_fast.checkpoint import checkpoint_content, save_checkpoint

if TYPE_CHECKING:
    from report_pages import Page

Run = Callable[..., tuple[int, str, str]]

# The same examples on every run, and no time limit, since the machine may be busy.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


ENGINES = [
    "emulated",
    *([pytest.param("cuda", marks=pytest.mark.cuda)] if engines.has_gpu() else []),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Replace the operators' CPU halves by their CUDA halves."""
    with engines.using(request.param):
        yield request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU where there is none."""
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
def recordings(tmp_path: Path) -> Path:
    """A manifest of four made-up recordings of different lengths, each with a text."""
    return write_recordings(tmp_path, ["ab", "no", "ab", "no"], [0.5, 0.8, 0.65, 0.45])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: exit status, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        return in_this_process(*arguments), *capsys.readouterr()

    return call


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """torch's number of threads is put back after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the output of hostile tests from crashing xdist's workers.

    They exchange reports as UTF-8, which cannot encode half a surrogate pair.
    """
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture
def model_content() -> dict[str, Any]:
    """What a model file holds."""
    return checkpoint_content(random_checkpoint())


@pytest.fixture
def partly_unreadable(tmp_path: Path) -> Path:
    """Five recordings: fine, missing, broken, fine, and 0.2 s for a text of 60 characters."""
    manifest = write_recordings(
        tmp_path, ["ab", "no", "ab", "no", "ab" * 30], [0.5, 0.5, 0.4, 0.6, 0.2]
    )
    (tmp_path / "rec1.wav").unlink()
    (tmp_path / "rec2.wav").write_bytes(b"RIFF broken")
    return manifest


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path) -> Place:
    """A folder to run commands in."""
    folder = tmp_path / "place"
    folder.mkdir()
    return Place(folder, tiny_model)


@pytest.fixture(scope="session")
def undisturbed_scores(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path
) -> dict[str, bytes]:
    """The scores of the four recordings of a ``place``, and their metadata."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), tiny_model)
    result = egl_fast(*place.score("--k", 3), cwd=place.folder)
    assert result.returncode == 0, result.stderr
    return {name: text for name, text in contents(place.folder).items() if name.startswith("out.")}


@pytest.fixture(scope="session")
def records(examples: Path) -> list[dict[str, Any]]:
    """Made-up scores of the sample's pool."""
    from synthetic_run import synthetic_scores

    return synthetic_scores(examples / "pool.jsonl")


@pytest.fixture(scope="session")
def report(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], examples: Path
) -> tuple[Path, Path, str]:
    """The report of a run whose manifest is hostile: its folder, the run folder, and the notes."""
    import polars as pl
    from report_pages import HOSTILE, run
    from synthetic_run import write_run

    folder = tmp_path_factory.mktemp("run")
    keys = ("text", "pred_text", "id", "kind", "speaker")
    heard = {"text": HOSTILE, "labels": [], "log_prob": -1.0, "sq_grad_norm": 1.0}
    bad = [{**records[0], **dict.fromkeys(keys, HOSTILE), "egl": 1e9, "hypotheses": [heard]}]
    # Beside the run: from far away, relative paths would climb to the root, and would resolve
    # from the wrong folder too.
    shutil.copytree(examples / "audio", folder / "audio")
    run_dir = write_run(
        folder / HOSTILE.replace("/", "_"),
        [*bad, *records[1:]],
        seeds=(0, 1),
        num_test=40,
        sequential=True,
        audio_folder=folder,
    )
    results = pl.read_parquet(run_dir / "results.parquet")
    errors = [results.with_columns(value=pl.lit(value)) for value in (HOSTILE, "(mean)")]
    pl.concat(errors).with_columns(test_clips=40).write_parquet(run_dir / "results_by.parquet")
    said = run(run_dir, "--paper", "--audio", "2", "--figures", folder / "figures")
    return folder, run_dir, said


@pytest.fixture(scope="session")
def page(report: tuple[Path, Path, str]) -> Page:
    """The page of ``report``, as a browser would see it."""
    from report_pages import Page

    return Page(report[1] / "report.html")
