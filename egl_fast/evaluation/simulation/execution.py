"""Doing one unit of work: training with its evaluation, or scoring."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.data.true_lengths import lacks_audio
from egl_fast.embeddings.spectrum import without_spectrum
from egl_fast.embeddings.typicality import Typicality, typicality
from egl_fast.errors import (
    CheckpointError,
    EglError,
    ManifestError,
    ModelError,
    OutputError,
    one_line,
)
from egl_fast.evaluation.simulation.oracles import oracle_cer, oracle_gradient
from egl_fast.evaluation.simulation.sets import Member, hidden
from egl_fast.evaluation.simulation.store import UnitStore, write_gzip
from egl_fast.evaluation.simulation.units import (
    FileInit,
    FreshInit,
    ScoreUnit,
    Start,
    TrainUnit,
    Unit,
)
from egl_fast.features import FeatureConfig
from egl_fast.files import atomic
from egl_fast.model import DeepSpeech2
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.records import to_json
from egl_fast.scorer import Scorer, pool_scoring
from egl_fast.scoring.run.outcome import in_order
from egl_fast.scoring.run.pool import PoolScoring
from egl_fast.scoring.run.trusted import trusted_embeddings
from egl_fast.selection.gate import FALSE_ALARMS
from egl_fast.training.examples import Example, examples_of_length
from egl_fast.training.loop import Progress, Trainer
from egl_fast.training.metrics import Transcript, count_edits, error_rates, in_nats, transcribe
from egl_fast.training.run_folder import EpochMetrics
from egl_fast.vocabulary import ENGLISH_CHARACTERS

#: Called with a few words about progress within a unit.
Note = Callable[[str], None]

CPU: Final = torch.device("cpu")


def execute(unit: Unit, store: UnitStore, note: Note, *, device: torch.device = CPU) -> None:
    """Do a unit's work and write its result, or resume work that was cut off.

    A training that already has a result is repeated only for its model.

    Args:
        unit: what to do; the model that it needs must be there. Its lock must be held.
        store: where.
        note: called now and then with a few words.
        device: where to compute. It is not part of a unit's name: as with the number of threads,
            results differ by rounding, which training may amplify.

    Raises:
        EglError: the work cannot be done; the message names the unit.
    """
    started = datetime.now(timezone.utc)
    clock = time.monotonic()
    folder = store.folder(unit.name)
    was_done = store.is_done(unit.name)
    atomic.make_folder(folder)
    if not was_done:
        atomic.write_json(folder / "spec.json", unit.spec)
    try:
        if isinstance(unit, TrainUnit):
            result, before = _train(unit, store, folder, note, device, for_its_model=was_done)
        else:
            result, before = _score(unit, store, folder, note, device), 0.0
    except OutputError:
        raise
    except EglError as error:
        raise type(error)(f"{unit.title} ({unit.name}): {error}") from None
    if not was_done:
        timing = {
            "wall_seconds": round(before + time.monotonic() - clock, 3),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "machine": platform.platform(),
            "device": str(device),
        }
        atomic.write_json(folder / "timing.json", timing)
        atomic.write_json(folder / "result.json", result)
    store.discard_run(unit.name)


def starting_point(init: Start, store: UnitStore | None = None) -> Checkpoint:
    """The model that a training starts from; only a unit's needs the store.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    if isinstance(init, FreshInit):
        with torch.random.fork_rng():
            torch.manual_seed(init.seed)
            model = DeepSpeech2(init.model).eval()
        return Checkpoint(model, FeatureConfig(), ENGLISH_CHARACTERS)
    if isinstance(init, FileInit):
        return load_checkpoint(init.path)
    assert store is not None
    return _model_of(init, store, CPU)


def _model_of(unit: TrainUnit, store: UnitStore, device: torch.device) -> Checkpoint:
    path = store.model_path(unit.name)
    checkpoint = load_checkpoint(path, device=device)
    if checkpoint.training.get("unit") != unit.name:
        raise CheckpointError(
            f"model {path}: is not the one that this unit trained; remove it to train it again"
        )
    return checkpoint


def _train(
    unit: TrainUnit,
    store: UnitStore,
    folder: Path,
    note: Note,
    device: torch.device,
    *,
    for_its_model: bool,
) -> tuple[dict[str, Any], float]:
    """The result, and the seconds spent on epochs that were there before.

    If there is a result already, and only its model is gone, the result and its tables stay as they
    are: computed on another machine, they would differ by rounding.
    """
    start = starting_point(unit.init, store)
    start.model.to(device)
    trainer = Trainer(
        start,
        unit.config,
        train=examples(unit.train, start),
        valid=examples(unit.valid, start),
        run_dir=store.run_dir(unit.name),
        settings={"unit": unit.name},
    )
    trainer.resume()
    before = trainer.seconds
    epochs = unit.config.max_epochs

    def on_batch(epoch: int, batch: int, num_batches: int, loss: float | None) -> None:
        note(f"epoch {epoch}/{epochs}, batch {batch}/{num_batches}, loss {in_nats(loss)}")

    def on_epoch(metrics: EpochMetrics, best: bool) -> None:
        note(f"epoch {metrics.epoch}/{epochs}, validation loss {in_nats(metrics.valid_loss)}")

    best = trainer.run(Progress(on_batch, on_epoch))
    result: dict[str, Any] = {
        "kind": unit.kind,
        "learning_rate": unit.config.learning_rate,
        "epochs": len(trainer.history),
        "best_epoch": best.epoch,
        "train_loss": best.train_loss,
        "valid_loss": best.valid_loss,
        "valid_cer": best.valid_cer,
        "valid_wer": best.valid_wer,
    }
    if unit.test and not for_its_model:
        note("testing")
        result["test"] = _test(
            unit, load_checkpoint(trainer.folder.model_path, device=device), folder
        )
    # Moved into place only now, so that any model there is a finished one.
    for path in (trainer.folder.metrics_path, trainer.folder.model_path):
        if path == trainer.folder.model_path or not for_its_model:
            atomic.write_bytes(folder / path.name, path.read_bytes())
    return result, before


def _test(unit: TrainUnit, checkpoint: Checkpoint, folder: Path) -> dict[str, Any]:
    transcripts = _transcripts(checkpoint, unit.test, unit.config.batch_seconds)
    counts = [count_edits(one.utterance.text or "", one.text) for one in transcripts]
    num_chars = sum(count.chars for count in counts)
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "ctc_loss", "char_errors", "num_chars", "word_errors", "num_words"])
    for one, count in zip(transcripts, counts, strict=True):
        errors = (count.char_edits, count.chars, count.word_edits, count.words)
        writer.writerow([one.utterance.id, repr(_finite_loss(one)), *errors])
    write_gzip(folder / "test.csv.gz", table.getvalue())
    rates = error_rates(transcripts)
    assert rates.loss is not None, "every loss is finite, and there is at least one"
    return {
        "utterances": len(transcripts),
        "ctc_loss": rates.loss,
        "ctc_loss_per_char": rates.loss * len(transcripts) / num_chars if num_chars else None,
        "cer": rates.cer,
        "wer": rates.wer,
    }


def _score(
    unit: ScoreUnit, store: UnitStore, folder: Path, note: Note, device: torch.device
) -> dict[str, Any]:
    checkpoint = _model_of(unit.model, store, device)
    scorer = Scorer(recognizer_of(checkpoint))
    records, embeddings = [], []
    scoring = pool_scoring(scorer, unit.options, embeds=unit.trusted is not None)
    for outcome in in_order(scoring.outcomes(hidden(unit.pool))):
        if isinstance(outcome.result, EglError):
            raise ModelError(
                f"utterance {outcome.utterance.id!r} of the pool cannot be scored "
                f"({one_line(outcome.result)}); filter it out"
            )
        records.append(to_json(outcome.result))
        if outcome.embedding is not None:
            embeddings.append(outcome.embedding.numpy())
        note(f"{len(records)}/{len(unit.pool)} utterances")
    result: dict[str, Any] = {"kind": "score", "clips": len(records)}
    if unit.trusted is not None:
        found = _typicality(unit, scoring, np.stack(embeddings), folder, note)
        for record, value in zip(records, found.pool.tolist(), strict=True):
            record["typicality"] = value
        thresholds = {f"{FALSE_ALARMS:g}": found.threshold(FALSE_ALARMS)}
        result["typicality"] = {"thresholds": thresholds}
    note("true losses")
    losses = _transcripts(checkpoint, unit.pool, unit.model.config.batch_seconds)
    lines: list[str] = []
    for record, member, transcript in zip(records, unit.pool, losses, strict=True):
        # All K labelings would fill megabytes.
        record["hypotheses"] = record.pop("hypotheses", [])[: unit.num_hypotheses]
        record |= {
            "longest": member.seconds,
            "shortest": -member.seconds,
            "oracle_loss": _finite_loss(transcript),
        }
        if unit.oracles:
            record |= {
                "oracle_cer": oracle_cer(member.utterance, transcript.text),
                "oracle_gradient": oracle_gradient(scoring, member.utterance),
            }
            note(f"true gradients, {len(lines)}/{len(unit.pool)} utterances")
        lines.append(json.dumps(record, allow_nan=False) + "\n")
    write_gzip(folder / "scores.jsonl.gz", "".join(lines))
    masses = sorted(record["beam_mass"] for record in records)
    return {**result, "median_beam_mass": masses[len(masses) // 2]}


def _typicality(
    unit: ScoreUnit,
    scoring: PoolScoring,
    embeddings: npt.NDArray[np.float32],
    folder: Path,
    note: Note,
) -> Typicality:
    assert unit.trusted is not None
    note("trusted utterances")
    trusted = trusted_embeddings(scoring, hidden(unit.trusted), lambda count: None)
    try:
        found = typicality(trusted, embeddings)
    except ValueError as error:
        raise ModelError(str(error)) from None
    content = io.BytesIO()
    np.save(content, without_spectrum(embeddings))
    atomic.write_bytes(folder / "embeddings.npy", content.getvalue())
    return found


def examples(members: Sequence[Member], checkpoint: Checkpoint) -> list[Example]:
    """Utterances ready for training; their lengths were measured when the sets were read.

    Raises:
        ManifestError: a text cannot be trained on; the message names it.
    """
    return examples_of_length(
        [member.utterance for member in members], [member.seconds for member in members], checkpoint
    )


def _transcripts(
    checkpoint: Checkpoint, members: tuple[Member, ...], batch_seconds: float
) -> list[Transcript]:
    utterances = [member.utterance for member in members]
    windows = transcribe(
        recognizer_of(checkpoint), utterances, batch_seconds=batch_seconds, with_loss=True
    )
    transcripts = [transcript for window in windows for transcript in window]
    for transcript in transcripts:
        # Hours picked and labeled are counted by what the manifest says.
        if lacks_audio(transcript.utterance, transcript.seconds):
            raise ManifestError(
                f"utterance {transcript.utterance.id!r}: {transcript.seconds:.2f} s were decoded "
                f"of the {transcript.utterance.duration_seconds:g} s that its manifest promises; "
                "correct its duration"
            )
    return transcripts


def _finite_loss(transcript: Transcript) -> float:
    loss = transcript.loss
    # Texts were checked against the frames of their audio before anything was trained.
    if loss is None or not math.isfinite(loss):
        raise ModelError(
            f"utterance {transcript.utterance.id!r}: its text needs more frames than its audio "
            "has; is its duration in the manifest right?"
        )
    return loss
