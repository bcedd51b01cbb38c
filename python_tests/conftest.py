"""What several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from recordings import random_checkpoint, write_clips

from egl_fast.checkpoint import save_checkpoint

# The same examples on every run, and no limit on how long a busy machine takes for one.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")


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
