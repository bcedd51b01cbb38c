"""``egl-fast bench``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from egl_fast import __version__
from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, tell_json
from egl_fast.errors import ManifestError

if TYPE_CHECKING:
    from egl_fast.benchmarking.measurement import Measurement
    from egl_fast.benchmarking.recordings import Stratum
    from egl_fast.features import FeatureConfig

#: As many rounds are taken as there is time for, ...
ENOUGH_SECONDS = 40.0

#: ... but at least one, and at most so many.
MOST_ROUNDS = 5

_MIB = 2**20


@click.command("bench")
@options.model
@click.option("--pool", type=options.FILE, help="Manifest of recordings: measure some of them, and "
              "estimate the time that all take [default: noise of 2 s].")  # fmt: skip
@click.option("--utterances", "num_utterances", type=click.IntRange(min=1), default=4,
              show_default=True, help="How many recordings to measure; on a GPU, each beside "
              "others of its length.")  # fmt: skip
@options.scoring_option("k", help="Labelings of each, as in `score`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@options.memory
@options.precision
@options.seed
@options.device
@options.threads
@options.quiet
def command(
    model_path: str,
    pool: str | None,
    num_utterances: int,
    k: int,
    as_json: bool,
    memory_bytes: int | None,
    precision: str,
    seed: int,
    device: str,
    threads: int | None,
) -> int:
    """How fast this model is scored on this machine, what bounds it, how long a pool takes.

    The built-in methods of `score` take turns with one inference pass (all that entropy needs) and
    with the plain loop of one torch.autograd backward pass per labeling, so that anything else the
    machine does slows all of them alike. Results are compared before they are timed; if they are
    wrong, one line says so (exit status 2). Takes about a minute with a small model.

    With --pool, recordings are drawn from its whole range of durations (by --seed), and their time
    per second of audio is scaled to the whole pool. Without it, noise stands in for speech, and
    noise takes a different number of backward passes.

    \b
    Examples:
      egl-fast bench --model base.pt --pool pool.jsonl
      egl-fast bench --model base.pt --pool pool.jsonl --utterances 12 --threads 1
      egl-fast bench --model base.pt --json | jq .contenders.exact.times_real_time
    """
    import torch

    from egl_fast.benchmarking.machine import machine
    from egl_fast.benchmarking.measurement import Measurement
    from egl_fast.benchmarking.memory import peak_memory_bytes
    from egl_fast.features import FeatureConfig

    facts = machine()
    place = options.set_up_torch(device, threads)
    scorer = options.load_scorer(model_path, place, memory_bytes=memory_bytes, precision=precision)
    gpu = scorer.device if scorer.device.type == "cuda" else None
    source = _Source(pool, num_utterances, seed)
    strata = source.strata(scorer.features or FeatureConfig(), scorer.default_batch_seconds)
    before = peak_memory_bytes()
    measurement = Measurement(scorer, strata, k=k)
    count = len(strata)
    with progress_bar(with_time_left=False) as bar:
        task = bar.add_task("measuring", total=count * (2 + MOST_ROUNDS), note="warming up")
        for number in range(count):
            measurement.strata[number].warm_up()
            bar.update(task, advance=1)
        # Before the plain loop and float64 take theirs.
        peak = peak_memory_bytes()
        gpu_peak = None if gpu is None else torch.cuda.max_memory_allocated(gpu)
        errors = []
        for number in range(count):
            errors.append(measurement.strata[number].check())
            bar.update(task, advance=1, note="comparing results")
        started = time.monotonic()
        rounds_done, num_rounds = 0, MOST_ROUNDS
        while rounds_done < num_rounds:
            for number in range(count):
                measurement.take_turns(number)
                bar.update(task, advance=1, note=f"round {rounds_done + 1}")
            rounds_done += 1
            if rounds_done == 1:
                there_is_time_for = int(ENOUGH_SECONDS / (time.monotonic() - started))
                num_rounds = max(1, min(MOST_ROUNDS, there_is_time_for))
                bar.update(task, total=count * (2 + num_rounds))
    results = {
        "egl_fast": __version__,
        "machine": facts,
        "device": str(scorer.device),
        "gpu": None if gpu is None else torch.cuda.get_device_name(gpu),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "model": model_path,
        "model_sha256": scorer.model_hash,
        "k": k,
        "seed": seed,
        "rounds": num_rounds,
        **source.facts(strata),
        **_results(measurement, source, strata),
        "largest_error": max(errors),
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
    return 0


class _Source:
    """Where recordings are from."""

    def __init__(self, path: str | None, num_utterances: int, seed: int) -> None:
        self.path = path
        self.seed = seed
        self.num_utterances = num_utterances
        self.num_recordings = num_utterances
        self.durations_from: str | None = None
        self.num_broken = 0

    def strata(self, features: FeatureConfig, batch_seconds: float) -> list[Stratum]:
        """What is measured."""
        from egl_fast.benchmarking.recordings import Durations, choose, noise_strata
        from egl_fast.data.manifest import read_manifest

        if self.path is None:
            return noise_strata(
                features, self.num_utterances, batch_seconds=batch_seconds, seed=self.seed
            )
        utterances = read_manifest(self.path)
        self.num_recordings = len(utterances)
        if self.num_utterances > self.num_recordings:
            raise click.UsageError(
                f"--utterances {self.num_utterances}: pool {self.path} holds "
                f"{self.num_recordings}; ask for as many at most"
            )
        try:
            durations = Durations.of(utterances, seed=self.seed)
            strata, self.num_broken = choose(
                utterances,
                durations,
                features,
                num_strata=self.num_utterances,
                batch_seconds=batch_seconds,
                seed=self.seed,
            )
        except ManifestError as error:
            raise ManifestError(f"pool {self.path}: {error}") from None
        self.durations_from = durations.origin
        return strata

    def facts(self, strata: list[Stratum]) -> dict[str, Any]:
        """What numbers are about."""
        pool = {
            "path": self.path,
            "recordings": self.num_recordings,
            "audio_seconds": sum(stratum.audio_seconds for stratum in strata),
            "durations_from": self.durations_from,
            "not_readable": self.num_broken,
        }
        measured = [
            {
                "shortest_seconds": stratum.shortest,
                "longest_seconds": stratum.longest,
                "audio_seconds": stratum.audio_seconds,
                "recordings": [{"id": r.id, "seconds": r.seconds} for r in stratum.recordings],
            }
            for stratum in strata
        ]
        return {"pool": pool, "strata": measured}


def _results(measurement: Measurement, source: _Source, strata: list[Stratum]) -> dict[str, Any]:
    from egl_fast.benchmarking import operation_count
    from egl_fast.benchmarking.contenders import LOOP
    from egl_fast.benchmarking.results import Bound, Pool, Rate, advice
    from egl_fast.benchmarking.turns import quartiles

    pool = Pool(source.num_recordings, [stratum.audio_seconds for stratum in strata])
    timings = measurement.timings()
    rates = {name: Rate.of(timing, pool, timings[LOOP]) for name, timing in timings.items()}
    not_counted = operation_count.not_counted(measurement.scorer.model)
    rate = measurement.product_rate
    bounds = {
        name: Bound.of(timings[name], stages, pool, rate=rate, countable=not not_counted)
        for name, stages in measurement.stages().items()
    }
    contenders: dict[str, dict[str, Any]] = {}
    for name, timing in timings.items():
        measured = zip(timing.audio_seconds, timing.seconds, strict=True)
        parts = [{"audio_seconds": audio, **quartiles(seconds)} for audio, seconds in measured]
        contenders[name] = {**asdict(rates[name]), "strata": parts}
        if name in bounds:
            contenders[name]["bound"] = asdict(bounds[name])
    return {
        "hypotheses": [len(one.labelings) for one in measurement.strata],
        "hypotheses_looped": [len(one.looped) for one in measurement.strata],
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
    machine, pool = results["machine"], results["pool"]
    where = results["gpu"] or f"{machine['cpu']}, {results['threads']} of {machine['cores']} cores"
    tell(
        f"{results['model']}, K = {results['k']}, {results['precision']}; {where}; torch "
        f"{machine['torch']}; load {machine['load_average']:g} at the start"
    )
    measured = [one["recordings"][0] for one in results["strata"]]
    seconds = [one["seconds"] for one in measured]
    if pool["path"] is None:
        tell(
            f"{len(measured)} recordings of noise, 2 s each: noise is not speech, and takes other "
            "numbers of backward passes; --pool FILE measures yours"
        )
    else:
        tell(
            f"pool {pool['path']}: {pool['recordings']:,} recordings, "
            f"{_duration(pool['audio_seconds'])} of audio; measured: {len(measured)} of "
            f"{min(seconds):.1f} to {max(seconds):.1f} s"
        )
    Console(highlight=False).print(_table(results))
    for line in _notes(results):
        tell(line)


def _table(results: dict[str, Any]) -> Table:
    from egl_fast.benchmarking.contenders import READING

    of_pool = results["pool"]["path"] is not None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for title in ("s each", "a second", "x real time", "x loop"):
        table.add_column(title, justify="right", no_wrap=True)
    if of_pool:
        table.add_column("the pool", justify="right", no_wrap=True)
    for name, one in results["contenders"].items():
        table.add_row(
            name,
            _number(one["seconds_per_utterance"]),
            _number(one["utterances_per_second"]),
            _number(one["times_real_time"]),
            "" if name == READING else _number(one["times_plain_loop"]),
            *([_duration(one["pool_seconds"])] if of_pool else []),
        )
    return table


def _notes(results: dict[str, Any]) -> list[str]:
    """What a reader of the numbers must know."""
    from egl_fast.benchmarking.contenders import COMPARED

    pool, memory, exact = results["pool"], results["memory"], results["contenders"]["exact"]
    notes = [
        f"Medians of {results['rounds']} rounds in which all took turns."
        if results["rounds"] > 1
        else "All took one turn: a second would have taken too long."
    ]
    load, cores = results["machine"]["load_average"], results["machine"]["cores"]
    if results["gpu"] is None and load > cores / 2:
        notes.append(
            f"The machine was not idle (load {load:g} on {cores} cores): measure again when it is."
        )
    looped, found = results["hypotheses_looped"][0], results["hypotheses"][0]
    if looped < found:
        notes.append(
            f"The plain loop went through {looped} labelings of each recording; its time is scaled "
            "to all of them."
        )
    notes.append("Audio to features is done beside the rest, in threads; it is in no other number.")
    if pool["path"] is not None:
        notes.append(
            f"The estimate rests on {len(results['strata'])} recordings, each standing for those "
            f"of about its duration, by seconds of audio (durations: {pool['durations_from']}). "
            "If every second cost as little as in the cheapest of them, exact would take "
            f"{_duration(exact['cheapest'])}; as much as in the dearest, "
            f"{_duration(exact['dearest'])}."
        )
    if pool["not_readable"]:
        notes.append(f"{pool['not_readable']} recordings could not be read and were passed over.")
    judged = "" if results["precision"] == "float32" else f" in {results['precision']}"
    notes.append(
        f"Checked before: exact squared norms{judged} are within {results['largest_error']:.1e} of "
        f"plain autograd's in float64 (the {COMPARED} best labelings of each recording)."
    )
    peak = memory["peak_bytes"] / _MIB
    text = (
        f"Memory: {peak:,.0f} MiB at most while scoring, {memory['peak_bytes_before'] / _MIB:,.0f} "
        "MiB of them before it began"
    )
    if memory["gpu_peak_bytes"] is not None:
        text += f"; of the GPU's, {memory['gpu_peak_bytes'] / _MIB:,.0f} MiB"
    notes.append(f"{text}; --memory allows gradients {memory['allowed_bytes'] / _MIB:,.0f} MiB.")
    if results["modules_not_counted"]:
        notes.append(
            f"Not counted: operations of {', '.join(results['modules_not_counted'])}, so of the "
            "whole."
        )
    return [*notes, "", *results["in_words"]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """In the unit that a person would say."""
    for unit, size in (("days", 172800.0), ("h", 7200.0), ("min", 120.0)):
        if seconds >= size:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.3g} s"
