"""``egl-fast bench``: that its numbers fit together, what it refuses, and what it rests on."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Set
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from commands import egl_fast
from recordings import utterance, write_clips, write_manifest

from egl_fast import FeatureConfig, Scorer
from egl_fast.benchmarking import recordings as drawing
from egl_fast.benchmarking.contenders import INFERENCE, LOOP, METHODS, READING, Contenders
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.recordings import Durations, choose, noise
from egl_fast.benchmarking.results import Bound, Pool, Rate, Stage, Timing, advice
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.benchmarking.turns import seconds_of
from egl_fast.data.loading import Spectrogram
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError, ManifestError
from egl_fast.reference import TOLERANCE

#: Two rounds instead of five, and a product that takes an eighth of the time.
IN_SMALL = """
from egl_fast.benchmarking import product_rate
from egl_fast.cli import bench
bench.MOST_ROUNDS = 2
product_rate.ORDER //= 2
"""


def bench(*arguments: object, before: str = "") -> CompletedProcess[str]:
    """The finished process; ``before`` is Python that runs first, to break things."""
    return egl_fast(
        "bench", *arguments, before=IN_SMALL + before, OMP_NUM_THREADS="1", COLUMNS="80"
    )


@pytest.fixture(scope="module")
def of_pool(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What it says of a pool of five, as JSON."""
    folder = tmp_path_factory.mktemp("pool")
    clips = write_clips(folder, ["ab", "no", "ab", "no", "on"], [0.5, 0.8, 0.65, 0.45, 1.2])
    done = bench(
        *("--model", tiny_model, "--pool", clips, "--k", 7, "--utterances", 3, "--json"),
        *("--memory", "512MiB", "--threads", 1, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rates_follow_from_times_and_times_from_what_was_measured(of_pool: dict[str, Any]) -> None:
    contenders, pool = of_pool["contenders"], of_pool["pool"]
    assert list(contenders) == [LOOP, *METHODS, INFERENCE, READING]
    assert pool["recordings"] == 5
    assert pool["audio_seconds"] == pytest.approx(3.6)
    strata = of_pool["strata"]
    assert sum(one["audio_seconds"] for one in strata) == pytest.approx(3.6)
    loop = contenders[LOOP]["pool_seconds"]
    for one in contenders.values():
        # Each stratum's audio at the price that was measured there.
        expected = sum(
            stratum["audio_seconds"] * part["median_s"] / part["audio_seconds"]
            for stratum, part in zip(strata, one["strata"], strict=True)
        )
        assert one["pool_seconds"] == pytest.approx(expected)
        assert one["seconds_per_utterance"] == pytest.approx(expected / 5)
        assert one["utterances_per_second"] == pytest.approx(1 / one["seconds_per_utterance"])
        assert one["times_real_time"] == pytest.approx(3.6 / expected)
        assert one["times_plain_loop"] == pytest.approx(loop / expected)
        assert one["cheapest"] <= expected * (1 + 1e-9)
        assert expected <= one["dearest"] * (1 + 1e-9)
        assert all(part["q1_s"] <= part["median_s"] <= part["q3_s"] for part in one["strata"])


def test_measured_recordings_are_of_their_stratum(of_pool: dict[str, Any]) -> None:
    strata = of_pool["strata"]
    assert len(strata) == 3
    assert len({one["recordings"][0]["id"] for one in strata}) == 3
    for one in strata:
        seconds = one["recordings"][0]["seconds"]
        assert one["shortest_seconds"] - 1e-3 <= seconds <= one["longest_seconds"] + 1e-3
    ends = [one[f"{end}_seconds"] for one in strata for end in ("shortest", "longest")]
    assert ends == sorted(ends)
    # The loop and, on a CPU, the methods work on the one; one inference pass on its neighbours too.
    contenders = of_pool["contenders"]
    for name, one in contenders.items():
        for stratum, part in zip(strata, one["strata"], strict=True):
            worked_on = stratum["recordings"][: None if name == INFERENCE else 1]
            assert part["audio_seconds"] == pytest.approx(sum(r["seconds"] for r in worked_on))
    assert len(strata[0]["recordings"]) == 5


def test_bounds_fit_together(of_pool: dict[str, Any]) -> None:
    assert of_pool["modules_not_counted"] == []
    rate = of_pool["product_flop_per_second"]
    assert rate > 0
    for name in METHODS:
        bound = of_pool["contenders"][name]["bound"]
        assert bound["forward"] + bound["backward"] + bound["rest"] == pytest.approx(1)
        assert min(bound["forward"], bound["backward"], bound["rest"]) > 0
        assert bound["flop_per_second"] == pytest.approx(bound["share"] * rate)
        assert 0 < bound["share"] < 1
    # The norms of 7 hypotheses take 7 rows at most, 4 probes 4.
    assert 1 <= of_pool["contenders"]["exact"]["bound"]["rows"] <= 7
    assert of_pool["contenders"]["probe --probes 4"]["bound"]["rows"] == 4
    assert any(line.startswith("exact: ") for line in of_pool["in_words"])


def test_facts_of_the_run(of_pool: dict[str, Any]) -> None:
    assert of_pool["k"] == 7
    assert of_pool["hypotheses"] == [7, 7, 7]
    assert of_pool["hypotheses_looped"] == [3, 3, 3]
    assert 1 <= of_pool["rounds"] <= 2
    assert of_pool["threads"] == 1
    assert of_pool["device"] == "cpu"
    assert of_pool["gpu"] is None
    assert of_pool["machine"]["torch"] == torch.__version__
    assert of_pool["machine"]["cores"] == os.cpu_count()
    assert of_pool["machine"]["cpu"]
    assert len(of_pool["model_sha256"]) == 64
    assert 0 < of_pool["largest_error"] <= TOLERANCE["float32"]
    memory = of_pool["memory"]
    assert memory["allowed_bytes"] == 512 * 2**20
    assert 50 * 2**20 < memory["peak_bytes_before"] <= memory["peak_bytes"] < 4 * 2**30


def test_noise_is_called_noise(tiny_model: Path) -> None:
    done = bench("--model", tiny_model, "--k", 3, "--utterances", 1)
    assert done.returncode == 0, done.stderr
    assert "noise is not speech" in done.stdout
    rows = {line.split("  ")[0].strip() for line in done.stdout.splitlines()}
    assert {LOOP, *METHODS, INFERENCE, READING} <= rows
    assert "…" not in done.stdout  # nothing is cut off at 80 columns
    assert "the pool" not in done.stdout
    assert "went through" not in done.stdout  # three labelings, and none left out


def test_the_table_of_a_pool(tiny_model: Path, clips: Path) -> None:
    done = bench("--model", tiny_model, "--pool", clips, "--k", 6, "--utterances", 2)
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert "4 recordings, 2.4 s of audio; measured: 2 of" in done.stdout
    assert "The estimate rests on 2 recordings" in done.stdout
    assert "went through 3 labelings" in done.stdout
    assert "--memory allows gradients 2,048 MiB" in done.stdout


def test_bad_input_is_refused_in_one_line(tiny_model: Path, clips: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    broken = [{"audio_filepath": "noise.wav"}, {"audio_filepath": "gone.wav"}]
    unreadable = write_manifest(tmp_path / "unreadable.jsonl", broken)
    timed = [record | {"duration": 2.0} for record in broken]
    unreadable_timed = write_manifest(tmp_path / "timed.jsonl", timed)
    for arguments, said in (
        (["--model", tmp_path / "gone.pt"], "gone.pt"),
        (["--model", tiny_model, "--pool", tmp_path / "gone.jsonl"], "no such file"),
        (["--model", tiny_model, "--pool", empty], "contains no utterances"),
        (["--model", tiny_model, "--pool", unreadable], "ask for as many at most"),
        (["--model", tiny_model, "--pool", unreadable, "--utterances", 2], "none of 2 recordings"),
        (["--model", tiny_model, "--pool", unreadable_timed, "--utterances", 1], "none of 2"),
        (["--model", tiny_model, "--pool", clips, "--utterances", 5], "--utterances 5: pool"),
        (["--model", tiny_model, "--precision", "tf32", "--device", "cpu"], "NVIDIA"),
        (["--model", tiny_model, "--k", 0], "--k"),
    ):
        done = bench(*arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert said in done.stderr, done.stderr


WRONG_NORMS = """
from egl_fast.benchmarking.stopwatch import StopwatchEngine as Engine
def wrong(right):
    return lambda *all: {name: 1.01 * norms for name, norms in right(*all).items()}
Engine.gram, Engine.sq_norms = wrong(Engine.gram), wrong(Engine.sq_norms)
"""

WRONG_ESTIMATES = """
from dataclasses import replace
from egl_fast.benchmarking.contenders import Contenders
right = Contenders.score
def score(self, **options):
    times = 1.1 if options.get("method") == "lowrank" else 1.0
    return [replace(record, egl=times * record.egl) for record in right(self, **options)]
Contenders.score = score
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (WRONG_NORMS, "squared norms are off by 1.0e-02"),
        (WRONG_ESTIMATES, "--method lowrank --tolerance 0.01 gives"),
    ],
    ids=["norms", "estimates"],
)
def test_wrong_results_are_not_timed(tiny_model: Path, before: str, said: str) -> None:
    done = bench("--model", tiny_model, "--k", 6, "--utterances", 1, before=before)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert said in done.stderr


def test_durations_that_the_manifest_lacks(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = read_manifest(clips)
    assert Durations.of(told, seed=0).origin == "the manifest"
    lacking = [utterance(one.audio_path) for one in told]
    read = Durations.of(lacking, seed=0)
    assert read.origin == "files' headers"
    assert read.audio_seconds == pytest.approx(2.4)
    assert [seconds for seconds, _ in read.known] == pytest.approx([0.45, 0.5, 0.65, 0.8])
    mixed = Durations.of([*told[:2], *lacking[2:]], seed=0)
    assert mixed.audio_seconds == pytest.approx(2.4)
    assert (
        mixed.origin == "the manifest, and of 2 recordings that lack it there from files' headers"
    )

    monkeypatch.setattr(drawing, "MOST_HEADERS", 3)
    read_headers = []
    monkeypatch.setattr(
        drawing,
        "audio_seconds",
        lambda one: read_headers.append(one) or 2.0,  # type: ignore[func-returns-value]
    )
    sampled = Durations.of(lacking * 10, seed=0)
    assert len(read_headers) == 3
    assert sampled.audio_seconds == pytest.approx(2.0 * 40)
    assert sampled.origin == "the headers of 3 files"


def test_headers_that_cannot_be_read(clips: Path, tmp_path: Path) -> None:
    gone = utterance(tmp_path / "gone.wav")
    readable = [utterance(one.audio_path) for one in read_manifest(clips)]
    assert Durations.of([*readable, gone], seed=0).audio_seconds == pytest.approx(2.4)
    with pytest.raises(ManifestError, match=r"none of 1 recordings tried can be read: .*gone"):
        Durations.of([gone], seed=0)


def drawn(
    seconds: list[float],
    *,
    broken: Set[int] = frozenset(),
    **how: Any,
) -> tuple[list[drawing.Stratum], int]:
    """Strata of a pool whose recordings hold nothing."""

    def load(one: Any, features: FeatureConfig) -> Spectrogram:
        if int(one.id) in broken:
            raise AudioError("audio: broken")
        return Spectrogram(torch.zeros(1, 1), one.duration_seconds)

    pool = [utterance(Path(f"{i}"), duration_seconds=one) for i, one in enumerate(seconds)]
    options = {"num_strata": 4, "batch_seconds": 0.1, "seed": 0, "load": load, **how}
    return choose(pool, Durations.of(pool, seed=0), FeatureConfig(), **options)


SECONDS = [0.5 + 0.1 * (i % 17) + (8.0 if i % 9 == 0 else 0.0) for i in range(90)]


def test_the_draw_depends_on_pool_and_seed_alone() -> None:
    def ids(seed: int) -> list[str]:
        return [one.recordings[0].id for one in drawn(SECONDS, seed=seed)[0]]

    assert ids(3) == ids(3)
    assert len({tuple(ids(seed)) for seed in range(10)}) > 5


def test_strata_have_like_audio_and_all_of_it() -> None:
    strata, num_broken = drawn(SECONDS)
    assert num_broken == 0
    audio = [one.audio_seconds for one in strata]
    assert sum(audio) == pytest.approx(sum(SECONDS))
    assert max(audio) - min(audio) < 2 * max(SECONDS)
    # As many strata as recordings: each is measured.
    alone, _ = drawn([1.0, 30.0, 2.0, 1.5], num_strata=4)
    assert sorted(one.recordings[0].seconds for one in alone) == [1.0, 1.5, 2.0, 30.0]


def test_estimates_are_unbiased_whatever_a_recording_costs() -> None:
    def cost(seconds: float) -> float:
        return 3.0 + seconds**2

    estimates = []
    for seed in range(400):
        strata, _ = drawn(SECONDS, seed=seed)
        pool = Pool(len(SECONDS), [one.audio_seconds for one in strata])
        measured = [one.recordings[0].seconds for one in strata]
        estimates.append(pool.scaled([cost(seconds) for seconds in measured], measured))
    truth = sum(map(cost, SECONDS))
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert error < 0.02 * truth
    assert abs(statistics.fmean(estimates) - truth) < 3 * error


def test_neighbours_fill_a_batch() -> None:
    strata, _ = drawn([1.0, 1.1, 1.2, 5.0], num_strata=1, batch_seconds=3.5)
    [stratum] = strata
    first, *others = (one.seconds for one in stratum.recordings)
    assert (1 + len(others)) * max(first, *others, 0.0) <= 3.5 or not others
    strata, _ = drawn([1.0] * 6, num_strata=2, batch_seconds=3.5)
    assert [len(one.recordings) for one in strata] == [3, 3]


def test_what_cannot_be_read_is_passed_over() -> None:
    strata, num_broken = drawn([1.0] * 6, broken={0, 1, 3, 4, 5}, num_strata=1)
    assert [one.id for one in strata[0].recordings] == ["2"]
    assert num_broken <= 5
    with pytest.raises(ManifestError, match=r"none of 3 recordings of 1.0 to 1.0 s"):
        drawn([1.0] * 6, broken={0, 1, 2}, num_strata=2)


@pytest.fixture(scope="module")
def contenders(tiny_model: Path) -> Contenders:
    """On noise, warm."""
    scorer = Scorer.from_checkpoint(tiny_model)
    assert scorer.features is not None
    engine = StopwatchEngine(scorer.model)
    found = Contenders(scorer, engine, noise(scorer.features, 2), k=8, looped=2)
    found.warm_up()
    return found


def test_the_engine_says_where_time_goes(contenders: Contenders) -> None:
    total = seconds_of(lambda: contenders.score(method="probe", probes=3))
    spent = contenders.engine.seconds()
    assert set(spent) == {"forward", "backward"}
    assert min(spent.values()) > 0
    assert sum(spent.values()) < total
    assert contenders.engine.rows == 3
    contenders.engine.restart()
    assert contenders.engine.seconds() == {}


def test_scores_are_those_of_the_scorer(contenders: Contenders) -> None:
    first = contenders.first
    [expected] = contenders.scorer.score_batch(
        *first.inputs, ids=[first.id], durations=[first.seconds], k=8, per_hypothesis=True
    )
    assert contenders.record == expected
    assert contenders.check() <= TOLERANCE["float32"]


def test_the_loop_is_scaled_by_its_backward_passes(contenders: Contenders) -> None:
    assert (len(contenders.labelings), len(contenders.looped)) == (8, 2)
    assert contenders.loop_over_all(5.0, 1.0) == pytest.approx(1.0 + 4.0 * 4)
    contenders.loop()
    assert contenders.largest_error() < 1e-2


def test_the_faster_product_is_the_ceiling() -> None:
    product = LargeProduct()
    seconds = {name: [4.0, 2.0] for name in product.contenders}
    seconds["oneDNN's product"] = [2.0, 4.0]
    seconds["another"] = [0.1, 0.1]
    assert product.rates(seconds) == [product.multiply_adds / 2.0] * 2
    assert set(product.contenders) == {"torch's product", "oneDNN's product"}


def bound_of(backward: float, *, countable: bool = True) -> Bound:
    """10 s for 5 s of audio of a pool of 20 s; backward passes of 120 multiply-adds, forward 8."""
    stages = [
        Stage(
            forward=0.5,
            backward=backward,
            rows=12.0,
            forward_multiply_adds=8.0,
            backward_multiply_adds=120.0,
        )
    ]
    timing = Timing([[9.0, 10.0, 30.0]], [5.0])
    return Bound.of(timing, stages, Pool(4, [20.0]), rate=20.0, countable=countable)


def test_bounds_in_words() -> None:
    bound = bound_of(8.0)
    assert (bound.forward, bound.backward) == (0.05, 0.8)
    assert bound.rest == pytest.approx(0.15)
    assert bound.share == pytest.approx(12.8 / 20)
    assert bound.backward_share == pytest.approx(15 / 20)
    assert bound.flop_per_second == pytest.approx(25.6)
    assert bound.sentence("exact") == (
        "exact: backward passes take 80% of the time and run at 75% of that rate: "
        "bound by arithmetic."
    )
    searching = Bound(4.0, 0.1, 0.3, 0.6, 1.0, 0.2, 0.9).sentence("probe")
    assert searching.startswith("probe: search, cotangents and records take 60% of the time; ")
    assert searching.endswith("arithmetic is not what bounds it; what does was not measured.")
    assert bound_of(8.0, countable=False).sentence("exact") == (
        "exact: backward passes take 80% of the time; operations were not counted."
    )


def test_advice_names_what_was_faster() -> None:
    timing = Timing([[10.0]], [5.0])
    pool = Pool(4, [20.0])
    quick = Rate.of(Timing([[2.5]], [5.0]), pool, timing)
    usual = Rate.of(timing, pool, timing)
    bounds = {"exact": bound_of(8.0), "probe --probes 4": bound_of(2.0)}
    [line] = advice({"exact": usual, "probe --probes 4": quick}, bounds)
    assert line.startswith("--method probe --probes 4 took 25% of exact's time")
    assert advice({"exact": quick, "probe --probes 4": usual}, bounds) == []
