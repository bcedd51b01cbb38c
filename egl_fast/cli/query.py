"""``egl-fast query``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import engines, operations, options, selection_options
from egl_fast.cli.console import say, warn
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.interruption import interruption_after
from egl_fast.cli.likeness import Likeness, TrainedOn, typicality_option
from egl_fast.cli.query_looks import Interrupted, Looks
from egl_fast.cli.query_output import Output
from egl_fast.cli.score import norm_rules_of, say_norm_rules
from egl_fast.cli.selection_output import FORMAT_OPTIONS, described, format_options
from egl_fast.cli.selection_summary import say_nothing_left_out, summarize
from egl_fast.data.manifest import read_manifest_and_hash
from egl_fast.errors import SelectionError
from egl_fast.files import atomic
from egl_fast.files.addresses import place_of
from egl_fast.files.copies import as_given
from egl_fast.files.locking import sole_writer
from egl_fast.methods.none import NoGradients
from egl_fast.methods.probe import Probe
from egl_fast.query.looks import FULL, GRADIENTS, OUTPUTS, seed_of
from egl_fast.query.rounds import Estimate, Goal, State, run_rounds
from egl_fast.recognizers.spec import parse
from egl_fast.selection import (
    Candidates,
    batches,
    low_mass_warning,
    parse_budget,
    within_budget,
)
from egl_fast.selection.gate import ENOUGH_TRUSTED, FALSE_ALARMS
from egl_fast.selection.request import Request

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.query.beliefs import Beliefs
    from egl_fast.scoring.run.scoring import Scoring
    from egl_fast.tracking.listener import Listeners

#: What recordings can be ranked by -> where a look says how far off its estimate is; None: exact
#: at the first look, which needs no gradients.
KEYS = {
    "pctc": None,
    "entropy": None,
    "egl": "egl_stderr",
    "egl_normalized": "egl_stderr",
    "egl_full": "egl_full_stderr",
}

#: What a rough estimate replaces in the record of the first look.
_ESTIMATES = ("egl", "egl_stderr", "egl_normalized", "egl_full", "egl_full_stderr")


def _key(context: click.Context, param: click.Parameter, given: str) -> str:
    key, _, unit = given.partition("/")
    if key not in KEYS or unit not in ("", "second") or given.endswith("/"):
        raise click.BadParameter(
            f"{given!r}: expected {', '.join(KEYS)}, or one of them with /second; for others, use "
            "`score --method none` and `select`"
        )
    return given


@click.command(
    "query",
    cls=GroupedCommand,
    epilog=selection_options.listed("Batches", batches.described())
    + "\n\n"
    + selection_options.listed("Formats", described()),
)
@options.model
@options.sources("--pool", required=True, help="Manifest of recordings to choose from")
@click.option("--out", required=True, type=options.RESUMABLE_OUT, help="Where to write the picks.")
@format_options
@click.option("--resume", is_flag=True, help="Continue an earlier run with the same --out, if "
              "there is one.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists; looks in OUT.query "
              "that still fit are used again.")  # fmt: skip
@click.option("--confidence", type=options.FiniteFloat(0, 1, min_open=True),
              show_default="0.9 with egl_full, else 0.98", metavar="SHARE",
              help="Stop when so much of the picks is expected to be what exact scores would "
              "pick.")  # fmt: skip
@click.option("--effort", type=options.FiniteFloat(min=0, min_open=True), default=10.0,
              show_default=True, metavar="PASSES", help="Stop before more than this is spent, in "
              "inference passes over the pool.")  # fmt: skip
@click.option("--strategy", default="pctc", show_default=True,
              metavar="NAME", callback=_key, shell_complete=options.completed_from(KEYS),
              help="What to rank by: pctc or entropy, which take one pass; or egl, egl_normalized, "
              "egl_full, which take gradients; NAME/second for the score per second of "
              "audio.")  # fmt: skip
@options.limit("Choose only from the first N recordings of the pool.")
@selection_options.selection
@typicality_option("Manifest of trusted recordings, such as the training set; needed for "
                   "--drop-atypical, --min-typicality, and --batch. Of copies of a recording, one "
                   "is taken then.")  # fmt: skip
@options.scoring_option("k")
@options.scoring_option("beam_width")
@options.scoring_option("params")
@options.scoring_option("seed")
@options.scored_seconds
@options.max_duration
@options.read_timeout
@options.memory
@options.precision
@options.device
@options.threads
@engines.options
@operations.options()
@options.quiet
@refuse_idle_options(
    without={
        "--drop-atypical": "--typicality",
        "--min-typicality": "--typicality",
        "--batch": "--typicality",
        **engines.NEEDS_RAY,
    },
    beside={"--share": "--batch", **engines.BESIDE_RAY},
)
def command(
    model_spec: str,
    pool: tuple[str, ...],
    out: str,
    resume: bool,
    overwrite: bool,
    confidence: float | None,
    effort: float,
    limit: int | None,
    budget: str,
    strategy: str,
    cost: str | None,
    exclude: tuple[str, ...],
    trusted: str | TrainedOn | None,
    k: int,
    beam_width: int | None,
    params: str | None,
    seed: int,
    batch_seconds: float | None,
    max_duration: float | None,
    read_timeout: float,
    memory_bytes: int | None,
    precision: str,
    device: str,
    threads: int | None,
    engine: engines.Engine,
    watch: Listeners,
    **chosen_by: Any,
) -> int:
    """Pick the most informative recordings of a pool, with effort only where it matters.

    Does in one go what `score` and `select` do in two, for less. By pctc, which is what `select`
    ranks by, too, one look at each recording is all it takes: an inference pass and the search.

    By a score that needs gradients, whether a recording is in or out is mostly clear from a rough
    estimate. All recordings are looked at with 4 backward passes; those near the cut-off are looked
    at again with 16 and 32, until --confidence is reached or --effort is spent. Effort is counted
    in inference passes: one pass is what running the model over the pool once takes. The first look
    at all costs 3.8 (with egl_full 7.6); exact scores, about 15.

    The picks are written as `select` writes them, with a `rank` from 1 and a `probability` that
    exact scores would pick them, too (1 by pctc). OUT.uncertain.jsonl lists the runners-up:
    recordings left out that exact scores may pick. OUT.meta.json says how sure the set is and what
    it took. Gradient scores in these files are estimates. Picks near the cut-off tend to be those
    that were overestimated, so do not average the scores of picks. OUT.atypical.jsonl lists what
    the gate left out, in groups; `egl-fast report --scores OUT`, for an OUT.jsonl, lets you listen
    to a few of each.

    A run can be stopped at any time. The same command with --resume continues it and ends with the
    same picks. What was looked at is kept in the folder OUT.query; with --overwrite, another
    --budget or --confidence starts from there. Recordings of --exclude are not looked at, so their
    copies are not recognized. As in `select`, a --budget of 20% is of the whole pool, with them; a
    --drop-atypical of 10% is of what was looked at.

    \b
    Examples:
      egl-fast query --model base.pt --pool pool.jsonl --budget 20% --typicality train.jsonl \\
          --out picks.jsonl
      egl-fast query --model base.pt --pool pool.jsonl --budget 5h --strategy egl_normalized \\
          --confidence 0.95 --effort 5 --out picks.jsonl --resume
      egl-fast query --model base.pt --pool pool.jsonl --budget 5h --typicality train.jsonl \\
          --per speaker=20 --exclude last_round.jsonl --out picks.jsonl
    """
    if resume and overwrite:
        raise click.UsageError("--resume continues a run, --overwrite starts over: give only one")
    key, _, unit = strategy.partition("/")
    full, exact = key == "egl_full", KEYS[key] is None
    levels = OUTPUTS if exact else FULL if full else GRADIENTS
    if confidence is None:
        confidence = 0.9 if full else 0.98
    if effort < levels.passes[0]:
        raise click.UsageError(
            f"--effort {effort:g}: the first look at all recordings takes "
            f"{levels.passes[0]:.2g} passes"
        )
    inputs = [
        path
        for path in (*parse(model_spec).files, *pool, trusted, *exclude)
        if isinstance(path, str)
    ]
    format_chosen = {name: chosen_by.pop(name) for name in FORMAT_OPTIONS}
    output = Output(out, format_chosen, inputs)
    if not (resume or overwrite):
        output.refuse_leftovers()
    request = Request(budget, strategy, cost, seed, **chosen_by)
    # Report wrong options before spending hours.
    pretended: dict[str, Any] = {"thresholds": {f"{FALSE_ALARMS:g}": 0.0}}
    if trusted is not None:  # how many are trusted is not known yet
        pretended["num_trusted"] = ENOUGH_TRUSTED
    pretended = {"typicality": pretended}
    request.with_default_gate(pretended).selection(metadata=pretended)
    everything, pool_hash = read_manifest_and_hash(*pool)
    everything = everything[:limit]
    outside = {identity for path in exclude for identity in selection_options.ids_in(path)}
    utterances = [utterance for utterance in everything if utterance.id not in outside]
    if not utterances:
        raise SelectionError("nothing is left to select from: every utterance is excluded")
    excluded = len(everything) - len(utterances)
    if cost is None and parse_budget(budget).seconds is None:
        count = len(utterances)
        within_budget([{}] * count, range(count), budget=budget, num_others=excluded)

    from egl_fast.scoring.run.pool import ReadingLimits
    from egl_fast.scoring.run.provenance import circumstances_of, run_settings

    common = options.checked_scoring(k=k, beam_width=beam_width, params=params, full=full)
    scoring_with = engines.start(
        engine,
        model_spec,
        device,
        threads,
        params=params,
        memory_bytes=memory_bytes,
        precision=precision,
    )

    def scoring_of(number: int, level: int) -> Scoring:
        return scoring_with(
            replace(
                common,
                method=NoGradients() if exact else Probe(levels.rows[level]),
                seed=seed_of(seed, number),
            ),
            batch_seconds=batch_seconds,
            limits=ReadingLimits(max_duration, read_timeout),
            embeds=trusted is not None and number == 1,
        )

    first = scoring_of(1, 0)
    likeness = None
    if trusted is not None:
        likeness = Likeness.to(trusted, len(utterances), scoring=first, model_spec=model_spec)
        request = request.with_default_gate(
            {"typicality": {"thresholds": {}, "num_trusted": likeness.num_trusted}}
        )

    def settings_of(scoring: Scoring) -> dict[str, Any]:
        trusted_hash = None if likeness is None else likeness.sha256
        return {**scoring.ask(run_settings, pool_hash), "trusted_sha256": trusted_hash}

    settings = {
        **settings_of(first),
        **selection_options.as_settings(request),
        "confidence": confidence,
        "effort": effort,
        "looked_at": len(utterances),
        "excluded": excluded,
    }
    if resume and output.is_complete(settings):
        say(f"{out}: already complete")
        say_norm_rules(output.metadata())
        return 3 if output.errors_path.exists() else 0
    atomic.make_folder(output.folder)
    with (
        sole_writer(output.folder / "lock", of=f"output {out}"),
        interruption_after("the current recordings") as stop,
    ):
        looks = Looks(output.folder, levels, inputs, overwrite=overwrite, stop=stop, watch=watch)

        def take(number: int, level: int, some: Sequence[Utterance]) -> list[dict[str, Any]]:
            scoring = first if number == 1 else scoring_of(number, level)
            return looks.take(
                scoring,
                some,
                settings_of(scoring),
                number=number,
                level=level,
                likeness=likeness if number == 1 else None,
            )

        def look(number: int, level: int, indices: Sequence[int]) -> list[Estimate | None]:
            wanted = [by_id[records[index]["id"]] for index in indices]
            found = {record["id"]: record for record in take(number, level, wanted)}
            for index in indices:
                closer = found.get(records[index]["id"], {})
                records[index] |= {name: closer[name] for name in _ESTIMATES if name in closer}
            return [
                estimate(records[index]) if records[index]["id"] in found else None
                for index in indices
            ]

        def estimate(record: dict[str, Any]) -> Estimate:
            per = record["duration"] if unit else 1.0
            scale = record["beam_mass"] if key == "egl_normalized" else 1.0
            stderr = KEYS[key]
            error = 0.0 if stderr is None else record[stderr] / (scale or 1.0)
            return record[key] / per, error / per

        by_id = {utterance.id: utterance for utterance in utterances}
        try:
            records = take(1, 0, utterances)
            if not records:
                error = looks.errors[0]
                raise SelectionError(
                    f"none of {len(utterances)} recordings could be scored; the first, "
                    f"{error['id']}: {error['error']}"
                )
            metadata = looks.metadata()
            candidates = Candidates(records, looks.embeddings([record["id"] for record in records]))
            selection = request.selection(num_others=excluded, metadata=metadata)
            offer = selection.offer(candidates)
            state = State.of(
                [estimate(record) for record in records],
                [record["duration"] for record in records],
            )
            beliefs = run_rounds(
                state,
                lambda scores: offer.choose(scores).picks,
                look,
                Goal(confidence, effort, levels=levels, seed=seed),
                told=_tell,
            )
        except Interrupted as interruption:
            say(str(interruption))
            return 130
        circumstances = first.ask(circumstances_of, as_given(model_spec), pool)
        # Not under "pool": relative audio paths of the picks start from their own folder.
        circumstances["manifest"] = circumstances.pop("pool")
        circumstances |= norm_rules_of(first, by_id[records[0]["id"]])
        output.write(
            records,
            state.scores.tolist(),
            beliefs,
            offer.turned_away,
            looks.errors,
            {
                **settings,
                **circumstances,
                **({"typicality": metadata["typicality"]} if likeness is not None else {}),
                "gate": None if selection.gate is None else selection.gate.metadata(candidates),
                "overlap": round(beliefs.overlap, 4),
                "likely_overlap": round(beliefs.likely_overlap, 4),
                "passes": round(state.effort, 2),
                "rounds": state.rounds,
                "num_picks": len(beliefs.picks),
                "num_scored": len(records),
                "num_failed": len(looks.errors),
            },
            # Where there are several sources, paths are absolute.
            place_of(pool[0]).parent,
        )
    # Choose by the last estimates once more, for the summary.
    chosen = offer.choose(state.scores.tolist())
    if likeness is None:
        say_nothing_left_out("give --typicality")
    summarize(selection, chosen, candidates, listed_in=f"{out}.atypical.jsonl")
    if beliefs.overlap < confidence:
        warn(
            f"{beliefs.overlap:.1%} of the picks are expected to be those of exact scores, "
            f"less than the {confidence:.1%} asked for; a larger --effort gets closer"
        )
    low_mass = low_mass_warning(records) if key == "egl" else None
    if low_mass is not None:
        warn(low_mass)
    say_norm_rules(circumstances)
    if looks.errors:
        say(f"{len(looks.errors)} could not be scored: see {output.errors_path}")
    return 3 if looks.errors else 0


def _tell(number: int, beliefs: Beliefs, state: State) -> None:
    looks = ", ".join(
        f"{count} looks of {rows} rows" if int(rows) else f"{count} inference passes"
        for rows, count in state.rounds[-1]["looks_by_rows"].items()
    )
    say(
        f"round {number}: {looks}; {state.effort:.1f} passes so far; {beliefs.overlap:.1%} of the "
        "picks are expected to be those of exact scores"
    )
