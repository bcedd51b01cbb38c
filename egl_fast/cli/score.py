"""``egl-fast score``."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egl_fast import __version__
from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, stderr
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import OutputError, one_line
from egl_fast.records import to_json
from egl_fast.selection import low_mass_warning

if TYPE_CHECKING:
    from egl_fast.scorer import Outcome, Scorer
    from egl_fast.scoring.options import ScoringOptions


#: Time left from which on the progress line names the faster methods.
LONG_SECONDS = 1800.0


@click.command("score")
@options.model
@click.option("--pool", required=True, metavar="FILE", help="Manifest of recordings to score.")
@click.option("--k", type=click.IntRange(min=1), default=100, show_default=True,
              help="Most probable labelings that the expectation runs over.")  # fmt: skip
@click.option("--out", metavar="FILE", help="Scores file (JSONL) [default: standard output].")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--beam-width", type=click.IntRange(min=1),
              help="Prefixes kept while searching [default: max(10 k, 100)].")  # fmt: skip
@click.option("--method", type=click.Choice(["exact", "lowrank", "probe"]), default="exact",
              show_default=True, help="All K gradients, from as many backward passes as "
              "they have independent directions; or estimates with an error bar (egl_stderr): as "
              "many as --tolerance asks for, or --probes of them.")  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.01, show_default=True,
              help="Of lowrank: standard error aimed at, as a share of egl.")  # fmt: skip
@click.option("--probes", type=click.IntRange(min=2), default=4, show_default=True,
              help="Of probe: backward passes a recording.")  # fmt: skip
@click.option("--full", is_flag=True, help="Also estimate the expectation over all labelings "
              "(egl_full).")  # fmt: skip
@click.option("--full-samples", type=click.IntRange(min=2), default=16, show_default=True,
              help="Of --full: labelings drawn from the model.")  # fmt: skip
@click.option("--per-hypothesis", is_flag=True,
              help="Write each labeling, its probability and squared norm.")  # fmt: skip
@click.option("--params", metavar="GLOB",
              help="Only parameters with these names count, such as 'output.*' or "
              "'convs.*,recurrent.*' [default: all].")  # fmt: skip
@click.option("--batch-seconds", type=click.FloatRange(min=0, min_open=True),
              help="Padded audio that shares a forward pass [default: 8; on a GPU, "
              "160].")  # fmt: skip
@click.option("--max-duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Refuse longer recordings (they go to the errors file).")  # fmt: skip
@options.memory
@options.precision
@options.seed
@options.device
@options.threads
def command(
    model_path: str,
    pool: str,
    out: str | None,
    overwrite: bool,
    batch_seconds: float | None,
    max_duration: float | None,
    memory_bytes: int | None,
    precision: str,
    device: str,
    threads: int | None,
    **chosen: Any,
) -> int:
    """Say how much each recording of a pool would teach the model.

    Writes one record a recording, in the manifest's order: the manifest's own keys, then
    Expected Gradient Length (`egl`, `egl_normalized`, `egl_unsquared`), the confidence scores
    `entropy` and `pctc`, a `random` score, and what the model heard (`pred_text`). Higher is more
    informative for all of them. Beside --out, OUT.meta.json says how it was made, and
    OUT.errors.jsonl lists the recordings that could not be scored (exit status 3).

    \b
    Examples:
      egl-fast score --model base.pt --pool pool.jsonl --k 100 --out scores.jsonl
      egl-fast score --model base.pt --pool pool.jsonl --method lowrank --tolerance 0.1
      egl-fast score --model base.pt --pool pool.jsonl | jq .egl
    """
    from egl_fast.scorer import Scorer
    from egl_fast.scoring.options import ScoringOptions

    out = None if out == "-" else out
    place = options.set_up_torch(device, threads)
    try:
        scoring = ScoringOptions(**chosen)
    except ValueError as error:
        raise click.UsageError(str(error).replace("_", "-")) from None
    writer = JsonlWriter(out, overwrite=overwrite)
    if out is not None and not overwrite:
        _refuse_leftovers(out)
    utterances = read_manifest(pool)
    try:
        scorer = Scorer.from_checkpoint(
            model_path, device=place, memory_bytes=memory_bytes, precision=precision
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    batch_seconds = scorer.default_batch_seconds if batch_seconds is None else batch_seconds
    started = time.monotonic()
    errors = _Errors(out)
    masses: list[dict[str, float]] = []
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar())
        stack.enter_context(writer)
        stack.enter_context(errors)
        task = bar.add_task("scoring", total=len(utterances), note="")
        done = [0, 0.0]

        def on_scored(count: int, seconds: float) -> None:
            done[0], done[1] = done[0] + count, done[1] + seconds
            spent = time.monotonic() - started
            note = f"{done[0] / spent:.2f}/s, {done[1] / spent:.1f} x real time"
            left = spent / done[0] * (len(utterances) - done[0]) if done[0] else 0.0
            if scoring.method == "exact" and left > LONG_SECONDS:
                note += " (--method lowrank or probe is faster)"
            bar.update(task, advance=count, note=note)

        outcomes: Iterator[Outcome] = scorer.score_utterances(
            utterances,
            scoring,
            batch_seconds=batch_seconds,
            max_duration=max_duration,
            on_scored=on_scored,
        )
        for outcome in outcomes:
            if outcome.record is not None:
                writer.write(to_json(outcome.record, outcome.utterance.record))
                writer.flush()
                masses.append({"beam_mass": outcome.record.beam_mass})
            else:
                errors.write(outcome)
    spent = time.monotonic() - started
    if out is not None:
        facts = _facts(scorer, scoring, spent) | {
            "pool": os.path.abspath(pool),
            "batch_seconds": batch_seconds,
            "max_duration": max_duration,
            "memory_bytes": scorer.memory_bytes,
            "num_scored": writer.num_records,
            "num_failed": errors.num_errors,
            "audio_seconds": round(done[1], 3),
        }
        _write_json(Path(out + ".meta.json"), facts)
    _summarise(len(utterances), errors, spent, out, masses)
    return 3 if errors.num_errors else 0


def _refuse_leftovers(out: str) -> None:
    for suffix in (".partial", ".meta.json", ".errors.jsonl"):
        if os.path.lexists(out + suffix):
            raise OutputError(
                f"output {out}{suffix}: is there from another run; move it away, or give "
                "--overwrite to lose it"
            )


class _Errors:
    """Utterances that could not be scored: into OUT.errors.jsonl, or else to standard error.

    The file is there only if there is something in it; one of an earlier run is replaced.
    """

    def __init__(self, out: str | None) -> None:
        self.path = None if out is None else f"{out}.errors.jsonl"
        self.num_errors = 0
        self._stack = ExitStack()
        self._writer: JsonlWriter | None = None

    def __enter__(self) -> _Errors:
        if self.path is not None:
            Path(self.path).unlink(missing_ok=True)
        return self

    def write(self, outcome: Outcome) -> None:
        """Add one utterance and its error."""
        self.num_errors += 1
        error = one_line(outcome.error) if outcome.error is not None else "unknown"
        if self.path is None:
            stderr.print(f"{outcome.utterance.id}: {error}", markup=False, soft_wrap=True)
            return
        if self._writer is None:
            self._writer = self._stack.enter_context(JsonlWriter(self.path, overwrite=True))
        self._writer.write({"id": outcome.utterance.id, "error": error})

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _facts(scorer: Scorer, scoring: ScoringOptions, seconds: float) -> dict[str, Any]:
    """What somebody needs to know to make the same scores again."""
    import torch

    from egl_fast import _extension

    return {
        "model_sha256": scorer.model_hash,
        "vocabulary": list(scorer.classes.vocabulary),
        "k": scoring.k,
        "beam_width": scoring.beam_width_on(scorer.device),
        "method": scoring.method,
        "tolerance": scoring.tolerance if scoring.method == "lowrank" else None,
        "probes": scoring.probes if scoring.method == "probe" else None,
        "full_samples": scoring.full_samples if scoring.full else None,
        "params": scoring.params,
        "per_hypothesis": scoring.per_hypothesis,
        "seed": scoring.seed,
        "versions": {
            "egl_fast": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "extension": _extension.build_info(),
        },
        "machine": platform.platform(),
        "device": str(scorer.device),
        "gpu": torch.cuda.get_device_name(scorer.device) if scorer.device.type == "cuda" else None,
        "precision": scorer.precision,
        "threads": torch.get_num_threads(),
        "wall_seconds": round(seconds, 3),
    }


def _summarise(
    total: int, errors: _Errors, spent: float, out: str | None, masses: list[dict[str, float]]
) -> None:
    scored = total - errors.num_errors
    line = f"scored {scored} of {total} recordings in {spent:.1f} s ({scored / spent:.2f}/s)"
    stderr.print(line if out is None else f"{line}: {out}", markup=False, soft_wrap=True)
    if errors.num_errors and errors.path is not None:
        stderr.print(
            f"{errors.num_errors} could not be scored: see {errors.path}",
            markup=False,
            soft_wrap=True,
        )
    warning = low_mass_warning(masses)
    if warning is not None:
        stderr.print(f"warning: {warning}", markup=False, soft_wrap=True)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"output {path}: cannot be written ({one_line(error)})") from None
