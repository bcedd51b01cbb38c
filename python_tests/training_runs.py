"""Training runs on made-up recordings, through ``Trainer`` or through the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import Run
from recordings import random_checkpoint

from egl_fast.data.manifest import read_manifest
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import prepare_examples
from egl_fast.training.loop import Trainer

CONFIG = TrainingConfig(max_epochs=3, patience=0, batch_seconds=1.5, learning_rate=3e-3)


def trainer_of(
    recordings: Path,
    run_dir: Path,
    config: TrainingConfig = CONFIG,
    *,
    cell: str = "gru",
    **more: Any,
) -> Trainer:
    checkpoint = random_checkpoint(cell=cell, dropout=0.2, seed=7)
    examples = prepare_examples(read_manifest(recordings), checkpoint).examples
    return Trainer(checkpoint, config, train=examples, valid=examples, run_dir=run_dir, **more)


def train(run: Run, manifest: Path, *more: object, valid: Path | None = None) -> Any:
    return run(
        *("train", "--train", manifest, "--valid", valid or manifest, "--preset", "tiny"),
        *("--run-dir", manifest.parent / "run", "--max-epochs", 1, *more),
    )
