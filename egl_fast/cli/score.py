"""``egl-fast score``."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from egl_fast import __version__
from egl_fast.cli import options
from egl_fast.cli.console import complain, progress_bar, say, tell_json, warn
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.interruption import interruption_after
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.manifest import read_manifest_and_hash
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.errors import one_line
from egl_fast.records import to_json
from egl_fast.scoring.journal import Tally
from egl_fast.scoring.outcome import Outcome, in_order
from egl_fast.scoring.resumable_scores import ResumableScores
from egl_fast.selection import low_mass_warning

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.scorer import Scorer
    from egl_fast.scoring.options import ScoringOptions
    from egl_fast.scoring.pool import PoolScoring


#: Time left from which on the progress line names the faster methods.
LONG_SECONDS = 1800.0


@click.command("score")
@options.model
@click.option("--pool", required=True, type=options.FILE, help="Manifest of recordings to score.")
@click.option("--k", type=click.IntRange(min=1), default=100, show_default=True,
              help="Most probable labelings that the expectation runs over.")  # fmt: skip
@click.option("--out", type=options.FILE, help="Scores file (JSONL) [default: standard output].")
@click.option("--resume", is_flag=True, help="Go on with --out where an earlier run was stopped, "
              "if there was one.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Start anew, and replace --out if it exists.")
@click.option("--beam-width", type=click.IntRange(min=1),
              help="Prefixes kept while searching [default: max(10 k, 100)].")  # fmt: skip
@click.option("--method", type=click.Choice(["exact", "lowrank", "probe"]), default="exact",
              show_default=True, help="All K gradients, from as many backward passes as "
              "they have independent directions; or estimates with an error bar (egl_stderr): as "
              "many as --tolerance asks for, or --probes of them.")  # fmt: skip
@click.option("--tolerance", type=options.Amount(0, 1, min_open=True, max_open=True),
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
@click.option("--batch-seconds", type=options.Amount(min=0, min_open=True),
              help="Padded audio that shares a forward pass [default: 8; on a GPU, "
              "160].")  # fmt: skip
@click.option("--max-duration", type=options.Amount(min=0, min_open=True), metavar="SECONDS",
              help="Refuse longer recordings (they go to the errors file).")  # fmt: skip
@click.option("--read-timeout", type=options.Amount(min=0, min_open=True), metavar="SECONDS",
              default=120.0, show_default=True, help="Give a recording up that takes longer to be "
              "read (it goes to the errors file).")  # fmt: skip
@options.memory
@options.precision
@options.seed
@options.device
@options.threads
@click.option("--json", "as_json", is_flag=True,
              help="Print the metadata of --out on standard output, a JSON object.")  # fmt: skip
@options.quiet
@refuse_idle_options(
    without={
        "--tolerance": "--method lowrank",
        "--probes": "--method probe",
        "--full-samples": "--full",
        "--resume": "--out",
        "--overwrite": "--out",
        "--json": "--out",
    }
)
def command(
    model_path: str,
    pool: str,
    out: str | None,
    resume: bool,
    overwrite: bool,
    batch_seconds: float | None,
    max_duration: float | None,
    read_timeout: float,
    memory_bytes: int | None,
    precision: str,
    device: str,
    threads: int | None,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Say how much each recording of a pool would teach the model.

    Writes one record a recording, in the manifest's order: the manifest's own keys, then
    Expected Gradient Length (`egl`, `egl_normalized`, `egl_unsquared`), the confidence scores
    `entropy` and `pctc`, a `random` score, and what the model heard (`pred_text`). Higher is more
    informative for all of them. Beside --out, OUT.meta.json says how it was made, and
    OUT.errors.jsonl lists the recordings that could not be scored (exit status 3).

    A run with --out may be stopped at any moment, by Ctrl-C (exit status 130), a signal or a power
    cut. The same command with --resume goes on, and ends with the same file as a run that was
    never stopped. It starts anew if there is nothing to go on with, so it may always be given.

    \b
    Examples:
      egl-fast score --model base.pt --pool pool.jsonl --k 100 --out scores.jsonl --resume
      egl-fast score --model base.pt --pool pool.jsonl --method lowrank --tolerance 0.1
      egl-fast score --model base.pt --pool pool.jsonl | jq .egl
    """
    out = None if out == "-" else out
    if resume and overwrite:
        raise click.UsageError("--resume goes on with a run, --overwrite starts anew: give one")
    results = None
    if out is not None:
        inputs = [pool, model_path]
        results = ResumableScores(out, resume=resume, overwrite=overwrite, inputs=inputs)
    utterances, pool_hash = read_manifest_and_hash(pool)

    from egl_fast.scorer import Scorer
    from egl_fast.scoring.options import ScoringOptions
    from egl_fast.scoring.pool import ReadingLimits

    place = options.set_up_torch(device, threads)
    try:
        scoring = ScoringOptions(**chosen)
    except ValueError as error:
        raise click.UsageError(str(error).replace("_", "-")) from None
    try:
        scorer = Scorer.from_checkpoint(
            model_path, device=place, memory_bytes=memory_bytes, precision=precision
        )
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    pool_scoring = scorer.pool_scoring(
        scoring, batch_seconds=batch_seconds, limits=ReadingLimits(max_duration, read_timeout)
    )
    if results is None:
        return _score_to_standard_output(pool_scoring, utterances)
    settings = _settings(scorer, pool_scoring, pool_hash)
    with results.locked():
        try:
            _score_into(results, pool_scoring, utterances, settings, _circumstances(scorer, pool))
        except KeyboardInterrupt:
            say(
                f"interrupted: {results.num_known} of {len(utterances)} recordings are done and "
                "kept; the same command with --resume goes on"
            )
            return 130
    if as_json:
        tell_json(results.metadata())
    return 3 if results.tally.num_failed else 0


def _score_into(
    results: ResumableScores,
    pool_scoring: PoolScoring,
    utterances: Sequence[Utterance],
    settings: dict[str, Any],
    circumstances: dict[str, Any],
) -> None:
    if not results.begin(settings, len(utterances)):
        say(f"{results.out}: complete already")
        return
    if results.num_known:
        say(f"resuming: {results.num_known} of {len(utterances)} recordings are done")
    with (
        _Meter(len(utterances), pool_scoring.options, done=results.num_known) as meter,
        interruption_after("the recordings at work") as interruption,
    ):
        clock = time.monotonic()
        for outcomes in pool_scoring.outcomes(utterances, known=results):
            before, clock = clock, time.monotonic()
            results.add(outcomes, clock - before)
            meter.advance(outcomes)
            if results.num_known < len(utterances):
                interruption.stop_if_requested()
        masses = results.masses()
        results.finish({**settings, **circumstances})
    _summarise(meter, results.tally, masses, name=str(results.out))
    if results.tally.num_failed:
        say(f"{results.tally.num_failed} could not be scored: see {results.errors_path}")


def _score_to_standard_output(pool_scoring: PoolScoring, utterances: Sequence[Utterance]) -> int:
    tally = Tally()
    masses = []
    with _Meter(len(utterances), pool_scoring.options) as meter, JsonlWriter(None) as writer:
        for outcome in in_order(pool_scoring.outcomes(utterances)):
            meter.advance([outcome])
            if outcome.record is not None:
                tally += Tally(num_scored=1)
                masses.append(outcome.record.beam_mass)
                writer.write(to_json(outcome.record, outcome.utterance.record))
                writer.flush()
            else:
                tally += Tally(num_failed=1)
                error = "unknown" if outcome.error is None else one_line(outcome.error)
                complain(f"{outcome.utterance.id}: {error}")
    _summarise(meter, tally, masses)
    return 3 if tally.num_failed else 0


class _Meter(AbstractContextManager["_Meter"]):
    """The progress line: how fast, how much is left, and how it would be faster."""

    def __init__(self, total: int, scoring: ScoringOptions, *, done: int = 0) -> None:
        self._total = total
        self._left = total - done
        self._scoring = scoring
        self._bar = progress_bar()
        self._task = self._bar.add_task("scoring", total=total, completed=done, note="")
        self._started = time.monotonic()
        self.num_done = 0
        self.lengths = TrueLengths()
        self._audio_seconds = 0.0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def __enter__(self) -> _Meter:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, outcomes: Sequence[Outcome]) -> None:
        self.num_done += len(outcomes)
        for outcome in outcomes:
            if outcome.record is not None:
                self._audio_seconds += outcome.record.duration
                self.lengths.add(outcome.utterance, outcome.record.duration)
        rates = self.num_done / self.seconds, self._audio_seconds / self.seconds
        note = f"{rates[0]:.2f}/s, {rates[1]:.1f} x real time"
        seconds_left = (self._left - self.num_done) / rates[0]
        if self._scoring.method == "exact" and seconds_left > LONG_SECONDS:
            note += " (--method lowrank or probe is faster)"
        self._bar.update(self._task, advance=len(outcomes), note=note)


def _settings(scorer: Scorer, pool_scoring: PoolScoring, pool_hash: str) -> dict[str, Any]:
    """All that decides the scores, but for rounding."""
    import torch

    scoring = pool_scoring.options
    return {
        "model_sha256": scorer.model_hash,
        "pool_sha256": pool_hash,
        "k": scoring.k,
        "beam_width": scoring.beam_width_on(scorer.device),
        "method": scoring.method,
        "tolerance": scoring.tolerance if scoring.method == "lowrank" else None,
        "probes": scoring.probes if scoring.method == "probe" else None,
        "full_samples": scoring.full_samples if scoring.full else None,
        "per_hypothesis": scoring.per_hypothesis,
        "params": scoring.params,
        "seed": scoring.seed,
        "batch_seconds": pool_scoring.batch_seconds,
        "max_duration": pool_scoring.limits.max_duration,
        "memory_bytes": scorer.memory_bytes,
        "precision": scorer.precision,
        "device": scorer.device.type,
        "versions": {"egl_fast": __version__, "torch": torch.__version__},
    }


def _circumstances(scorer: Scorer, pool: str) -> dict[str, Any]:
    """What else somebody may want to know of how the scores were made."""
    import torch

    from egl_fast import _extension

    return {
        "vocabulary": list(scorer.classes.vocabulary),
        "pool": os.path.abspath(pool),
        "versions": {
            "egl_fast": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "extension": _extension.build_info(),
        },
        "machine": platform.platform(),
        "gpu": torch.cuda.get_device_name(scorer.device) if scorer.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
    }


def _summarise(
    meter: _Meter, tally: Tally, masses: Sequence[float], *, name: str | None = None
) -> None:
    total = tally.num_scored + tally.num_failed
    line = (
        f"scored {tally.num_scored} of {total} recordings in {meter.seconds:.1f} s "
        f"({meter.num_done / meter.seconds:.2f}/s)"
    )
    say(line if name is None else f"{line}: {name}")
    low_mass = low_mass_warning({"beam_mass": mass} for mass in masses)
    for warning in (meter.lengths.warning(), low_mass):
        if warning is not None:
            warn(warning)
