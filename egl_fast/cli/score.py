"""``egl-fast score``."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import engines, operations, options
from egl_fast.cli.console import complain, say, stderr, tell_json, tell_table
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.interruption import interruption_after
from egl_fast.cli.layer_shares import LayerShares, layer_table
from egl_fast.cli.likeness import Likeness, TrainedOn, typicality_option
from egl_fast.cli.meter import ScoringMeter
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.streamed_manifest import stream_manifest
from egl_fast.errors import one_line
from egl_fast.files import copies
from egl_fast.recognizers.spec import parse
from egl_fast.records import ScoreRecord, to_json
from egl_fast.scoring.run.journal import Tally
from egl_fast.scoring.run.outcome import in_order
from egl_fast.scoring.run.resumable_scores import ResumableScores
from egl_fast.scoring.run.shards import WHOLE, Shard

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.scoring.run.scoring import Scoring
    from egl_fast.tracking.listener import Listeners


class ShardName(click.ParamType):  # type: ignore[type-arg]
    """``I/N``."""

    name = "shard"

    def convert(self, value: Any, param: Any, ctx: Any) -> Shard:
        try:
            return value if isinstance(value, Shard) else Shard.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("score", cls=GroupedCommand)
@options.model
@options.sources("--pool", required=True, help="Manifest of recordings to score")
@click.option("--out", type=options.RESUMABLE_OUT,
              help="Scores file: JSONL, or Parquet if it ends in .parquet "
              "[default: standard output].")  # fmt: skip
@click.option("--resume", is_flag=True, help="Continue an earlier run with the same --out, if "
              "there is one.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Start over, replacing --out if it exists.")
@click.option(
    "--shard",
    type=ShardName(),
    metavar="I/N",
    help="Score only the I-th of N parts of the pool; `merge` puts them together.",
)
@options.limit("Score only the first N recordings of the pool.")
@options.scoring
@options.scored_seconds
@options.max_duration
@options.read_timeout
@typicality_option("Manifest of trusted recordings, such as the training set: adds `typicality`, "
                   "how much a recording is like them and the rest of the pool, and keeps "
                   "OUT.embeddings.npy.")  # fmt: skip
@options.memory
@options.precision
@options.device
@options.threads
@engines.options
@click.option("--json", "as_json", is_flag=True,
              help="Print the metadata of --out as a JSON object.")  # fmt: skip
@operations.options()
@options.quiet
@refuse_idle_options(
    without={
        **options.NEEDED_METHODS,
        "--full-samples": "--full",
        "--resume": "--out",
        "--overwrite": "--out",
        "--json": "--out",
        "--typicality": "--out",
        "--shard": "--out",
        **engines.NEEDS_RAY,
    },
    beside=engines.BESIDE_RAY,
)
def command(
    model_spec: str,
    pool: tuple[str, ...],
    out: str | None,
    resume: bool,
    overwrite: bool,
    shard: Shard | None,
    limit: int | None,
    batch_seconds: float | None,
    max_duration: float | None,
    read_timeout: float,
    trusted: str | TrainedOn | None,
    memory_bytes: int | None,
    precision: str,
    device: str,
    threads: int | None,
    engine: engines.Engine,
    as_json: bool,
    watch: Listeners,
    **chosen: Any,
) -> int:
    """Score how much each recording of a pool would teach the model.

    Writes one record per recording, in the manifest's order: the manifest's own keys, then Expected
    Gradient Length (`egl`, `egl_normalized`, `egl_unsquared`), the confidence scores `entropy` and
    `pctc`, a `random` score, and the model's transcript (`pred_text`). Higher always means more
    informative. Beside --out, OUT.meta.json says how the scores were made, and OUT.errors.jsonl
    lists the recordings that could not be scored (exit status 3).

    A run with --out can be stopped at any time: by Ctrl-C (exit status 130), a signal, or a power
    cut. The same command with --resume continues it, and ends with the same file as an
    uninterrupted run. If there is nothing to continue, --resume starts from the beginning, so it
    can always be given.

    \b
    Examples:
      egl-fast score --model base.pt --pool pool.jsonl --k 100 --out scores.jsonl --resume
      egl-fast score --model base.pt --pool pool.jsonl --method lowrank --tolerance 0.1
      egl-fast score --model base.pt --pool pool.jsonl --method none --typicality train.jsonl \\
          --out scores.jsonl
      egl-fast score --model base.pt --pool pool.jsonl | jq .egl
      egl-fast score --model base.pt --pool pool.jsonl --shard 3/8 --out scores.3.jsonl
    """
    out = None if out == "-" else out
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite starts over: give only one")
    results = None
    named = (*pool, *parse(model_spec).files, trusted)
    inputs = [path for path in named if isinstance(path, str)]
    if out is not None:
        results = ResumableScores(
            out,
            resume=resume,
            overwrite=overwrite,
            inputs=inputs,
            embeddings=trusted is not None,
        )
    manifest = stream_manifest(*pool)
    first_ones = WHOLE.of(manifest, limit=limit)

    from egl_fast.scoring.run.pool import ReadingLimits
    from egl_fast.scoring.run.provenance import circumstances_of, layer_sizes, run_settings

    chosen_scoring = options.chosen_scoring(chosen)
    scoring_with = engines.start(
        engine,
        model_spec,
        device,
        threads,
        params=chosen_scoring.params,
        memory_bytes=memory_bytes,
        precision=precision,
    )
    scoring = scoring_with(
        chosen_scoring,
        batch_seconds=batch_seconds,
        limits=ReadingLimits(max_duration, read_timeout),
        embeds=trusted is not None,
    )
    likeness = None
    if trusted is not None:
        likeness = Likeness.to(trusted, len(first_ones), scoring=scoring, model_spec=model_spec)
    utterances = first_ones if shard is None else shard.of(first_ones)
    if results is None:
        return _score_to_standard_output(scoring, utterances, watch)
    settings = {
        "shard": None if shard is None else str(shard),
        "limit": limit,
        **scoring.ask(run_settings, manifest.sha256),
    }
    settings["trusted_sha256"] = None if likeness is None else likeness.sha256
    with results.locked():
        try:
            _score_into(
                results,
                scoring,
                utterances,
                settings,
                scoring.ask(circumstances_of, copies.as_given(model_spec), pool),
                likeness,
                watch,
            )
        except KeyboardInterrupt:
            say(
                f"interrupted: {results.num_completed} of {len(utterances)} recordings are done "
                "and kept; the same command with --resume continues"
            )
            return 130
    metadata = results.metadata()
    say_norm_rules(metadata)
    if as_json:
        tell_json(metadata)
    elif "layer_shares" in metadata:
        tell_table(layer_table(metadata["layer_shares"], scoring.ask(layer_sizes)))
    return 3 if results.tally.num_failed else 0


def _score_into(
    results: ResumableScores,
    scoring: Scoring,
    utterances: Sequence[Utterance],
    settings: dict[str, Any],
    circumstances: dict[str, Any],
    likeness: Likeness | None,
    watch: Listeners,
) -> None:
    # A broken trusted recording is found before anything is written.
    if likeness is not None and results.is_new:
        likeness.look(scoring, utterances)
    has_work = results.begin(settings, len(utterances))
    if not has_work:
        watch.started("scoring", "recordings", len(utterances), len(utterances))
        failed = results.tally.num_failed
        rest = f", except for {failed} that failed: see {results.errors_path}" if failed else ""
        say(f"{results.out}: already complete{rest}")
        return
    if results.num_completed:
        say(f"resuming: {results.num_completed} of {len(utterances)} recordings are done")
    if likeness is not None:
        likeness.look(scoring, utterances)
    with operations.shown(watch), interruption_after("the current recordings") as stop:
        meter = ScoringMeter(
            watch, "scoring", len(utterances), scoring.options, done=results.num_completed
        )
        clock = time.monotonic()
        for outcomes in scoring.outcomes(utterances, completed=results, stop=stop):
            before, clock = clock, time.monotonic()
            results.add(outcomes, clock - before)
            meter.advance(outcomes)
        if results.num_completed < len(utterances):
            raise KeyboardInterrupt
        low_mass = meter.low_mass(results.column("beam_mass"))
        typicality = None
        if likeness is not None and settings["shard"] is not None:
            # Typicality is a matter of the whole pool; `merge` finds it.
            likeness.keep(results.out)
            circumstances["trusted"] = likeness.path
        elif likeness is not None:
            typicality = likeness.of(results.embeddings())
            circumstances["typicality"] = likeness.metadata(results.column("id"))
        first = next(results.records(), {"id": None})["id"]
        circumstances |= norm_rules_of(
            scoring, next((one for one in utterances if one.id == first), None)
        )
        if scoring.options.by_layer:
            circumstances["layer_shares"] = LayerShares.of(results.records()).as_json()
        results.finish({**settings, **circumstances}, typicality=typicality)
    meter.summarize(results.tally, low_mass, name=str(results.out))
    if results.tally.num_failed:
        say(f"{results.tally.num_failed} could not be scored: see {results.errors_path}")


def norm_rules_of(scoring: Scoring, scored: Utterance | None) -> dict[str, Any]:
    """What metadata say about norm rules, if a recording was scored."""
    from egl_fast.scoring.run.provenance import norm_rules

    found = None if scored is None else scoring.ask(norm_rules, scored)
    return {} if found is None else {"norm_rules": found}


def say_norm_rules(metadata: Mapping[str, Any]) -> None:
    """Say which parameters have no norm rule, if there are any."""
    from egl_fast.gradients.coverage import Coverage

    if metadata.get("norm_rules", {}).get("without_rule"):
        say(Coverage.from_json(metadata["norm_rules"]).sentence)


def _score_to_standard_output(
    scoring: Scoring, utterances: Sequence[Utterance], watch: Listeners
) -> int:
    from egl_fast.scoring.run.provenance import layer_sizes

    tally = Tally()
    masses = array("d")
    shares = LayerShares()
    with operations.shown(watch), JsonlWriter(None) as writer:
        meter = ScoringMeter(watch, "scoring", len(utterances), scoring.options)
        for outcome in in_order(scoring.outcomes(utterances)):
            meter.advance([outcome])
            if isinstance(outcome.result, ScoreRecord):
                tally += Tally(num_scored=1)
                masses.append(outcome.result.beam_mass)
                record = to_json(outcome.result, outcome.utterance.record)
                shares.add(record)
                writer.write(record)
                writer.flush()
            else:
                tally += Tally(num_failed=1)
                complain(f"{outcome.utterance.id}: {one_line(outcome.result)}")
    meter.summarize(tally, meter.low_mass(masses))
    if shares.as_json():
        stderr.print(layer_table(shares.as_json(), scoring.ask(layer_sizes)))
    return 3 if tally.num_failed else 0
