"""``egl-fast bench``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from egl_fast import __version__
from egl_fast.benchmarking.results import Bound, Pool, Rate, advice
from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, tell_json, tell_table
from egl_fast.errors import ManifestError

if TYPE_CHECKING:
    from egl_fast.benchmarking.measurement import Measurement
    from egl_fast.benchmarking.recordings import Stratum
    from egl_fast.scorer import Scorer

#: As many rounds run as there is time for, ...
ENOUGH_SECONDS = 40.0

#: ... but at least one, and at most so many.
MOST_ROUNDS = 5


@click.command("bench")
@options.model
@options.sources("--pool", default="2 s of noise", help="Manifest of recordings: measure some of "
                 "them, and estimate how long all of them take")  # fmt: skip
@click.option("--utterances", "num_utterances", type=click.IntRange(min=1), default=4,
              show_default=True, help="How many recordings to measure; on a GPU, each together "
              "with others of its length.")  # fmt: skip
@options.scoring_option("k", help="Labelings of each, as in `score`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@options.memory
@options.precision
@options.seed
@options.device
@options.threads
@options.quiet
def command(
    model_spec: str,
    pool: tuple[str, ...],
    num_utterances: int,
    k: int,
    as_json: bool,
    memory_bytes: int | None,
    precision: str,
    seed: int,
    device: str,
    threads: int | None,
) -> int:
    """Measure how fast this model scores here, what limits it, and how long a pool would take.

    The built-in methods of `score` are timed in turn with two baselines: one inference pass, which
    is all that entropy needs, and a plain loop of one torch.autograd backward pass per labeling.
    Whatever else the machine does slows all of them alike. Results are compared first; if they are
    wrong, nothing is timed, and the exit status is 2. Takes about a minute with a small model.

    With --pool, recordings are drawn from its whole range of durations (by --seed), and their time
    per second of audio is scaled up to the whole pool. Without it, noise stands in for speech, and
    noise needs a different number of backward passes.

    \b
    Examples:
      egl-fast bench --model base.pt --pool pool.jsonl
      egl-fast bench --model base.pt --pool pool.jsonl --utterances 12 --threads 1
      egl-fast bench --model base.pt --json | jq .contenders.exact.times_real_time
    """
    import torch

    from egl_fast.benchmarking.machine import machine
    from egl_fast.benchmarking.measurement import Measurement
    from egl_fast.tracking.memory import peak_memory_bytes

    facts = machine()
    place = options.set_up_torch(device, threads)
    scorer = options.load_scorer(model_spec, place, memory_bytes=memory_bytes, precision=precision)
    gpu = scorer.device if scorer.device.type == "cuda" else None
    strata, about_pool = _draw(pool, scorer, num_utterances, seed)
    before = peak_memory_bytes()
    measurement = Measurement(scorer, strata, k=k)
    count = len(strata)
    with progress_bar(with_time_left=False) as bar:
        task = bar.add_task("measuring", total=count * (2 + MOST_ROUNDS), note="warming up")
        for comparison in measurement.comparisons:
            comparison.warm_up()
            bar.update(task, advance=1)
        # Before the plain loop and float64 take theirs.
        peak = peak_memory_bytes()
        gpu_peak = None if gpu is None else torch.cuda.max_memory_allocated(gpu)
        errors = []
        for comparison in measurement.comparisons:
            errors.append(comparison.check())
            bar.update(task, advance=1, note="comparing results")
        started = time.monotonic()
        rounds_done, num_rounds = 0, MOST_ROUNDS
        while rounds_done < num_rounds:
            for number in range(count):
                measurement.run_round(number)
                bar.update(task, advance=1, note=f"round {rounds_done + 1}")
            rounds_done += 1
            if rounds_done == 1:
                there_is_time_for = int(ENOUGH_SECONDS / (time.monotonic() - started))
                num_rounds = max(1, min(MOST_ROUNDS, there_is_time_for))
                bar.update(task, total=count * (2 + num_rounds))
    coverage = measurement.comparisons[0].engine.coverage
    assert coverage is not None
    results = {
        "egl_fast": __version__,
        "machine": facts,
        "device": str(scorer.device),
        "gpu": None if gpu is None else torch.cuda.get_device_name(gpu),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "model": model_spec,
        "model_sha256": scorer.model_hash,
        "k": k,
        "seed": seed,
        "rounds": num_rounds,
        "pool": about_pool,
        "strata": [
            {
                "shortest_seconds": stratum.shortest,
                "longest_seconds": stratum.longest,
                "audio_seconds": stratum.audio_seconds,
                "recordings": [{"id": r.id, "seconds": r.seconds} for r in stratum.recordings],
            }
            for stratum in strata
        ],
        **_results(measurement, Pool(about_pool["recordings"], [s.audio_seconds for s in strata])),
        "largest_error": max(errors),
        "norm_rules": coverage.as_json(),
        "memory": {
            "peak_bytes": peak,
            "peak_bytes_before": before,
            "gpu_peak_bytes": gpu_peak,
            "allowed_bytes": scorer.memory_bytes,
        },
    }
    if as_json:
        tell_json(results, indent=2)
    else:
        _print(results)
        tell(coverage.sentence)
    return 0


def _draw(
    pool: Sequence[str], scorer: Scorer, num_utterances: int, seed: int
) -> tuple[list[Stratum], dict[str, Any]]:
    """The recordings to measure, and facts about the pool that they are from."""
    from egl_fast.benchmarking.recordings import Durations, choose, noise_strata
    from egl_fast.data.manifest import read_manifest

    recognizer, batch_seconds = scorer.recognizer, scorer.default_batch_seconds
    num_recordings, durations_from, num_broken = num_utterances, None, 0
    path = ", ".join(pool) or None
    if path is None:
        strata = noise_strata(recognizer, num_utterances, batch_seconds=batch_seconds, seed=seed)
    else:
        utterances = read_manifest(*pool)
        num_recordings = len(utterances)
        if num_utterances > num_recordings:
            raise click.UsageError(
                f"--utterances {num_utterances}: pool {path} has only {num_recordings}"
            )
        try:
            durations = Durations.of(utterances, seed=seed)
            strata, num_broken = choose(
                utterances,
                durations,
                recognizer.load,
                num_strata=num_utterances,
                batch_seconds=batch_seconds,
                seed=seed,
            )
        except ManifestError as error:
            raise ManifestError(f"pool {path}: {error}") from None
        durations_from = durations.origin
    return strata, {
        "path": path,
        "recordings": num_recordings,
        "audio_seconds": sum(stratum.audio_seconds for stratum in strata),
        "durations_from": durations_from,
        "not_readable": num_broken,
    }


def _results(measurement: Measurement, pool: Pool) -> dict[str, Any]:
    from egl_fast.benchmarking import operation_count
    from egl_fast.benchmarking.comparison import LOOP, METHODS
    from egl_fast.benchmarking.interleaved import quartiles

    parts = measurement.parts()
    rates = {name: Rate.of(some, pool, parts[LOOP]) for name, some in parts.items()}
    not_counted = operation_count.not_counted(measurement.scorer.model)
    rate = measurement.product_rate
    bounds = {
        name: Bound.of(parts[name], pool, rate=rate, countable=not not_counted) for name in METHODS
    }
    contenders: dict[str, dict[str, Any]] = {}
    for name, some in parts.items():
        strata = [{"audio_seconds": p.audio_seconds, **quartiles(p.seconds)} for p in some]
        contenders[name] = {**asdict(rates[name]), "strata": strata}
        if name in bounds:
            contenders[name]["bound"] = asdict(bounds[name])
    return {
        "hypotheses": [len(one.labelings) for one in measurement.comparisons],
        "hypotheses_looped": [len(one.looped) for one in measurement.comparisons],
        "product_flop_per_second": 2 * rate,
        "modules_not_counted": not_counted,
        "contenders": contenders,
        "in_words": [
            f"A large matrix product ran at {2e-9 * rate:,.0f} GFLOP/s.",
            *(bound.sentence(name) for name, bound in bounds.items()),
            *advice(rates, bounds),
        ],
    }


def _print(results: dict[str, Any]) -> None:
    from egl_fast.benchmarking.comparison import READING

    machine, pool = results["machine"], results["pool"]
    where = results["gpu"] or f"{machine['cpu']}, {results['threads']} of {machine['cores']} cores"
    tell(
        f"{results['model']}, K = {results['k']}, {results['precision']}; {where}; torch "
        f"{machine['torch']}; load {machine['load_average']:g} at the start"
    )
    seconds = [one["recordings"][0]["seconds"] for one in results["strata"]]
    if pool["path"] is None:
        tell(
            f"{len(seconds)} recordings of 2 s of noise: noise is not speech, and needs a "
            "different number of backward passes; --pool FILE measures your recordings"
        )
    else:
        tell(
            f"pool {pool['path']}: {pool['recordings']:,} recordings, "
            f"{_duration(pool['audio_seconds'])} of audio; measured: {len(seconds)} of "
            f"{min(seconds):.1f} to {max(seconds):.1f} s"
        )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    of_pool = [] if pool["path"] is None else ["the pool"]
    for title in ("s each", "per second", "x real time", "x loop", *of_pool):
        table.add_column(title, justify="right", no_wrap=True)
    for name, one in results["contenders"].items():
        table.add_row(
            name,
            _number(one["seconds_per_utterance"]),
            _number(one["utterances_per_second"]),
            _number(one["times_real_time"]),
            "" if name == READING else _number(one["times_plain_loop"]),
            *(_duration(one["pool_seconds"]) for _ in of_pool),
        )
    tell_table(table)
    for line in [*_notes(results), "", *results["in_words"]]:
        tell(line)


def _notes(results: dict[str, Any]) -> Iterator[str]:
    """Caveats about the numbers."""
    from egl_fast.benchmarking.comparison import COMPARED

    pool, memory, exact = results["pool"], results["memory"], results["contenders"]["exact"]
    if results["rounds"] > 1:
        yield f"Medians of {results['rounds']} rounds; in each, everything ran once."
    else:
        yield "One round only: a second would have taken too long."
    load, cores = results["machine"]["load_average"], results["machine"]["cores"]
    if results["gpu"] is None and load > cores / 2:
        yield f"The machine was busy (load {load:g} on {cores} cores): repeat this when it is idle."
    looped, found = results["hypotheses_looped"][0], results["hypotheses"][0]
    if looped < found:
        yield (
            f"The plain loop was timed on {looped} labelings of each recording, and scaled up to "
            "all of them."
        )
    yield "Audio to features happens in other threads meanwhile; no other row includes it."
    if pool["path"] is not None:
        yield (
            f"The estimate rests on {len(results['strata'])} recordings; each stands for those of "
            f"similar duration, by seconds of audio (durations: {pool['durations_from']}). If "
            "every second took as long as in the cheapest of them, exact would take "
            f"{_duration(exact['cheapest'])}; in the most expensive, {_duration(exact['dearest'])}."
        )
    if pool["not_readable"]:
        yield f"{pool['not_readable']} recordings could not be read and were skipped."
    judged = "" if results["precision"] == "float32" else f" in {results['precision']}"
    yield (
        f"Checked first: exact squared norms{judged} are within {results['largest_error']:.1e} of "
        f"plain autograd's in float64 (the {COMPARED} best labelings of each recording)."
    )
    gpu = memory["gpu_peak_bytes"]
    yield (
        f"Memory: a peak of {_mib(memory['peak_bytes'])} while scoring, "
        f"{_mib(memory['peak_bytes_before'])} of it from before"
        + ("" if gpu is None else f", and {_mib(gpu)} of the GPU's")
        + f"; --memory allows {_mib(memory['allowed_bytes'])} for gradients."
    )
    if results["modules_not_counted"]:
        yield (
            f"Operations of {', '.join(results['modules_not_counted'])} were not counted, so there "
            "is no share of the machine's rate."
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """A duration in the largest unit of which there are at least two."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"
