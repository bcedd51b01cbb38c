"""What `train` keeps of its recordings is what `score --typicality` compares with by default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from commands import in_this_process, lines_of
from conftest import Run
from embeddings_alone import alone
from recordings import random_checkpoint, utterance, write_manifest
from run_states import state_in

from egl_fast.checkpoint import load_checkpoint, save_checkpoint
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.training.examples import Example
from egl_fast.training.trusted import _sample


class Trained(NamedTuple):
    """A run of `train` on 20 recordings, one of them without speech, and a pool of 16."""

    folder: Path
    train: Path
    pool: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    def again(self, *more: object, run_dir: Path | None = None) -> int:
        return in_this_process(
            *("train", "--train", self.train, "--valid", self.train, "--max-epochs", 1),
            *("--patience", 0, "--preset", "tiny", "--run-dir", run_dir or self.folder),
            *("--resume", *more),
        )

    def score(self, run: Run, out: Path, *more: object) -> tuple[int, str, str]:
        return run(
            *("score", "--model", self.model, "--pool", self.pool, "--out", out),
            *("--k", 5, "--method", "probe", "--probes", 2, *more),
        )


def spoken(manifest: Path) -> Path:
    """The part of a manifest that has a text."""
    records = lines_of(manifest.read_text())
    return write_manifest(manifest.with_name("spoken.jsonl"), [r for r in records if r["text"]])


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(rows[:, 0])]


@pytest.fixture(scope="module")
def trained(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    manifests = []
    for name, count in (("train", 20), ("pool", 16)):
        records = lines_of((examples / f"{name}.jsonl").read_text())[::3][:count]
        for record in records:
            record["audio_filepath"] = str(examples / record["audio_filepath"])
        if name == "train":
            records[0]["text"] = ""
        manifests.append(write_manifest(folder / f"{name}.jsonl", records))
    found = Trained(folder / "run", *manifests)
    assert found.again() == 0
    return found


def test_training_keeps_embeddings_by_the_weights_in_the_file(trained: Trained) -> None:
    kept = load_checkpoint(trained.model).trusted
    assert kept is not None
    expected = alone(trained.model, spoken(trained.train))
    assert len(expected) == 19
    # Half precision has 11 bits; the sums in float32 take other orders in other batches.
    assert sorted_rows(kept.numpy()) == pytest.approx(sorted_rows(expected), rel=2e-3, abs=1e-4)


def test_score_compares_with_them_as_with_their_manifest(
    trained: Trained, tmp_path: Path, run: Run
) -> None:
    outs = tmp_path / "default.jsonl", tmp_path / "named.jsonl"
    # The next option, not a file, follows the first.
    assert trained.score(run, outs[0], "--typicality", "--seed", 0)[0] == 0
    assert trained.score(run, outs[1], "--typicality", spoken(trained.train))[0] == 0
    default, named = (
        np.array([record["typicality"] for record in lines_of(out.read_text())]) for out in outs
    )
    # By what half precision changes (docs/typicality.md).
    assert default == pytest.approx(named, abs=0.02)
    facts = [json.loads(Path(f"{out}.meta.json").read_text())["typicality"] for out in outs]
    assert facts[0]["trusted"] == str(trained.model)
    assert facts[1]["trusted"] == str(trained.train.with_name("spoken.jsonl"))
    assert facts[0]["num_trusted"] == facts[1]["num_trusted"] == 19
    # Other trusted recordings are taken up by what was scored.
    assert trained.score(run, outs[1], "--resume", "--typicality")[0] == 0
    again = json.loads(Path(f"{outs[1]}.meta.json").read_text())["typicality"]
    assert again == facts[0]


def test_query_compares_with_them_too(trained: Trained, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "picks.jsonl"
    status, _, err = run(
        *("query", "--model", trained.model, "--pool", trained.pool, "--out", out, "--k", 5),
        *("--budget", 2, "--confidence", 0.1, "--drop-atypical", "25%", "--typicality"),
    )
    assert status == 0, err
    assert len(lines_of(Path(f"{out}.atypical.jsonl").read_text())) == 4
    facts = json.loads(Path(f"{out}.meta.json").read_text())
    assert facts["typicality"]["trusted"] == str(trained.model)


def test_what_cannot_be_compared_is_refused(
    trained: Trained, tiny_model: Path, tmp_path: Path, run: Run
) -> None:
    out = tmp_path / "scores.jsonl"
    status, _, err = trained.score(run, out, "--typicality", "--model", tiny_model)
    assert (status, err.count("\n")) == (2, 1)
    assert f"the model {tiny_model} comes without embeddings of what it was trained on" in err
    assert "--typicality FILE" in err
    status, _, err = trained.score(run, out, "--typicality", "--params", "recurrent.*")
    assert (status, err.count("\n")) == (2, 1)
    assert "--params recurrent.* leaves out the output layer" in err
    assert not out.exists()


def test_they_can_be_left_out_and_added_again(trained: Trained, tmp_path: Path) -> None:
    before = state_in(trained.model)
    assert trained.again("--no-typicality") == 0
    without = state_in(trained.model)
    assert without == {key: value for key, value in before.items() if key != "trusted"}
    assert trained.again() == 0
    assert state_in(trained.model) == before
    assert trained.again("--no-typicality", run_dir=tmp_path / "other") == 0
    assert state_in(tmp_path / "other/model.pt") == without


def test_a_warm_start_replaces_those_of_the_model_it_starts_from(
    trained: Trained, tmp_path: Path
) -> None:
    before = load_checkpoint(trained.model).trusted
    status = in_this_process(
        *("train", "--train", trained.train, "--valid", trained.train, "--max-epochs", 1),
        *("--init", trained.model, "--run-dir", tmp_path, "--learning-rate", 0.01),
    )
    after = load_checkpoint(tmp_path / "model.pt").trusted
    assert status == 0
    assert before is not None
    assert after is not None
    expected = alone(tmp_path / "model.pt", spoken(trained.train))
    assert sorted_rows(after.numpy()) == pytest.approx(sorted_rows(expected), rel=2e-3, abs=1e-4)
    assert sorted_rows(before.numpy()) != pytest.approx(sorted_rows(expected), rel=0.1)


def test_the_choice_is_of_speech_and_does_not_depend_on_order() -> None:
    examples = [Example(utterance(Path(f"{n}.wav")), [1] * (n % 3), 1.0) for n in range(30)]
    chosen = _sample(examples, 5, seed=0)
    assert len(chosen) == 5
    assert not {one.id for one in chosen} & {f"{n}.wav" for n in range(0, 30, 3)}
    assert chosen == _sample(examples[::-1], 5, seed=0)
    assert chosen != _sample(examples, 5, seed=1)


def test_numbers_beyond_half_precision_come_back(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    width = 2 * checkpoint.model.output.in_features + SIZE
    for largest in (100.0, 1e6):
        checkpoint.trusted = torch.linspace(0, largest, 3 * width).reshape(3, width)
        save_checkpoint(tmp_path / "m.pt", checkpoint)
        found = load_checkpoint(tmp_path / "m.pt").trusted
        assert found is not None
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, checkpoint.trusted, rtol=2**-11, atol=1e-7)
