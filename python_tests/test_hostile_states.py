"""Training states that were tampered with: ``train --resume`` refuses them all."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recordings import random_checkpoint, write_recordings

from egl_fast.checkpoint import read_torch, write_torch
from egl_fast.cli.main import cli
from egl_fast.errors import CheckpointError, EglError
from egl_fast.training.config import TrainingConfig
from egl_fast.training.loop import _make_optimizer
from egl_fast.training.run_folder import RunFolder
from egl_fast.training.saved_state import load_state


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a one-epoch run and its recordings."""
    folder = tmp_path_factory.mktemp("run")
    write_recordings(folder, ["ab", "no"], [0.5, 0.8])
    train(folder)
    return folder


def train(folder: Path, *more: str) -> None:
    recordings = str(folder / "all.jsonl")
    arguments = ["--train", recordings, "--valid", recordings, "--run-dir", str(folder / "run")]
    options = ["--preset", "tiny", "--max-epochs", "1", "--quiet", *more]
    cli.main(["train", *arguments, *options], prog_name="egl-fast", standalone_mode=False)


def put(*path: Any) -> Callable[[Any], None]:
    """A change that puts the last argument where the names before it lead."""
    *way, last, value = path

    def change(state: Any) -> None:
        for name in way:
            state = state[name]
        state[last] = value

    return change


def unfinished(**changes: Any) -> dict[str, Any]:
    return {
        "num_batches": 1,
        "loss_sum": 2.5,
        "num_utterances": 1,
        "seconds": 0.1,
        "random_state": torch.get_rng_state(),
        "cuda_random_state": None,
    } | changes


TAMPERED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a model of another size": (
        put("checkpoint", "model", "hidden_size", 25), "the model has shape"),
    "a million layers": (put("checkpoint", "model", "num_layers", 10**6), "expected at most 100"),
    "another vocabulary": (
        put("checkpoint", "vocabulary", 3, "ä"), "to a model with another vocabulary"),
    "other features": (
        put("checkpoint", "features", "hop_seconds", 0.02), "to a model with other features"),
    "another dropout": (
        put("checkpoint", "model", "dropout", 0.5), "to a model with other sizes"),
    "weights that are NaN": (
        put("checkpoint", "state_dict", "output.bias", torch.full((29,), float("nan"))),
        "output.bias: contains NaN"),
    "no checkpoint": (put("checkpoint", None), "is not an egl-fast checkpoint"),
    "no optimizer": (put("optimizer", None), "optimizer: expected a state for each weight"),
    "an optimizer of other weights": (
        put("optimizer", "state", 99, {}), "expected a state for each of"),
    "an optimizer that keeps nothing": (
        put("optimizer", "state", 0, {}), "expected step, exp_avg, exp_avg_sq"),
    "an optimizer that keeps words": (
        put("optimizer", "state", 0, "exp_avg", "x"), "exp_avg: expected numbers of shape"),
    "an optimizer of another shape": (
        put("optimizer", "state", 0, "exp_avg", torch.zeros(3)), "exp_avg: expected numbers of"),
    "an optimizer that keeps NaN": (
        put("optimizer", "state", 0, "step", torch.tensor(float("nan"))), "step: contains NaN"),
    "squares below zero": (
        lambda state: state["optimizer"]["state"][0]["exp_avg_sq"].sub_(1), "below 0"),
    "a history of words": (put("history", "abc"), "expected fields by name, got 'a'"),
    "a history of nothing": (put("history", None), "not iterable"),
    "an epoch that is a word": (
        put("history", 0, "epoch", "1"), "epoch: expected int, got '1'"),
    "an epoch below zero": (put("history", 0, "epoch", -1), "epoch: expected a number from 0"),
    "an epoch of the future": (put("history", 0, "epoch", 7), "epoch 7 is in place 1"),
    "a rate that is a list": (put("history", 0, "valid_cer", [1]), "valid_cer: expected"),
    "metrics without a name": (put("history", 0, 7, 1), "unknown field 7"),
    "batches below zero": (
        put("unfinished", unfinished(num_batches=-1)), "num_batches: expected a number from 0"),
    "batches without end": (
        put("unfinished", unfinished(num_batches=2**100)), "num_batches: expected a number from 0"),
    "a random state that is a number": (
        put("unfinished", unfinished(random_state=7)), "random_state: expected"),
    "a random state of another length": (
        put("unfinished", unfinished(random_state=torch.zeros(3, dtype=torch.uint8))),
        "random_state: "),
    "a random state of other numbers": (
        put("unfinished", unfinished(random_state=torch.zeros(5056))), "random_state: "),
    "an unfinished epoch that is a list": (put("unfinished", [1]), "expected fields by name"),
    "no settings": (put("settings", None), "is not a training state of egl-fast"),
    "long settings": (put("settings", "training", "seed", [["x\ny"] * 40] * 40), "--seed"),
}  # fmt: skip


def take_up(folder: Path, settings: dict[str, Any]) -> None:
    """What ``train --resume`` does before it trains."""
    run_folder = RunFolder(folder, settings)
    state = run_folder.resume()
    assert state is not None
    checkpoint = random_checkpoint()
    optimizer = _make_optimizer(checkpoint.model, TrainingConfig())
    before = copy.deepcopy(checkpoint.model.state_dict())
    try:
        load_state(state, checkpoint, optimizer, run_folder.last_path)
    except CheckpointError:
        assert optimizer.state_dict()["state"] == {}
        assert all(torch.equal(checkpoint.model.state_dict()[n], t) for n, t in before.items())
        raise


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_state_is_refused_in_one_line(
    finished_run: Path, tmp_path: Path, what: str
) -> None:
    change, cause = TAMPERED[what]
    state = read_torch(finished_run / "run" / "last.pt")
    settings = copy.deepcopy(state["settings"])
    change(state)
    write_torch(tmp_path / "last.pt", state)
    with pytest.raises(EglError) as caught:
        take_up(tmp_path, settings)
    message = str(caught.value)
    assert cause in message
    assert "\n" not in message
    assert len(message) < 600
    assert str(tmp_path) in message


def test_the_command_refuses_too(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    last = tmp_path / "run" / "last.pt"
    state = read_torch(last)
    write_torch(last, {**state, "optimizer": {"state": {0: None}}})
    with pytest.raises(CheckpointError, match="optimizer: expected a state for each"):
        train(tmp_path, "--resume")
    write_torch(last, state)
    train(tmp_path, "--resume")
