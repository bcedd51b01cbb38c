"""How far off `egl-fast bench` is when it estimates a pool: python benchmarks/pool_estimate.py

Every recording of a pool is scored alone and its processor time taken, which hardly depends on what
else the machine does. Then the pool's time is estimated under a thousand seeds, as `bench` does it.
"""

from __future__ import annotations

import statistics
import time
from functools import partial

import torch
from script import options_of

from egl_fast import Scorer
from egl_fast.benchmarking.comparison import METHODS, Comparison
from egl_fast.benchmarking.recordings import Durations, Recording, choose
from egl_fast.benchmarking.results import Part, Pool
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.compute.memory import keep_freed_memory
from egl_fast.data.manifest import read_manifest

NAMES = ("exact", "lowrank --tolerance 0.1", "probe --probes 4")
SEEDS = 1000


def main() -> None:
    """One line for each method and number of recordings."""
    parser = options_of(__doc__)
    parser.add_argument("--utterances", nargs="+", type=int, default=[4, 12])
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    scorer = Scorer.from_checkpoint(options.model)
    pool = read_manifest(options.pool)
    loaded = {one.id: Recording.of(one.id, partial(scorer.recognizer.load, one)) for one in pool}
    seconds: dict[str, dict[str, float]] = {name: {} for name in NAMES}
    engine = StopwatchEngine(scorer.model)
    for recording in loaded.values():
        alone = Comparison(scorer, engine, [recording], k=100, looped=1)
        for name in NAMES:
            started = time.process_time()
            alone.score(**METHODS[name])
            seconds[name][recording.id] = time.process_time() - started
    durations = Durations.of(pool, seed=0)
    for count in options.utterances:
        draws = [
            choose(
                pool,
                durations,
                lambda one: loaded[one.id].prepared,
                num_strata=count,
                batch_seconds=0.0,
                seed=seed,
            )[0]
            for seed in range(SEEDS)
        ]
        for name in NAMES:
            truth = sum(seconds[name].values())
            ratios = []
            for strata in draws:
                drawn = [stratum.recordings[0] for stratum in strata]
                parts = [Part(one.seconds, [seconds[name][one.id]]) for one in drawn]
                whole = Pool(len(pool), [one.audio_seconds for one in strata])
                ratios.append(whole.sum(parts, Part.median) / truth)
            print(
                f"{count} recordings, {name}: mean {statistics.fmean(ratios):.3f} of the truth "
                f"({truth:.0f} s), standard deviation {statistics.stdev(ratios):.1%}"
            )


if __name__ == "__main__":
    main()
