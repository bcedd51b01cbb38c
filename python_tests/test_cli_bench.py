"""``egl-fast bench`` as a user runs it: that its numbers fit together, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from commands import egl_fast
from recordings import write_manifest, write_recordings

from egl_fast.benchmarking.comparison import (
    INFERENCE,
    LOOP,
    METHODS,
    NO_GRADIENTS,
    READING,
)
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
    """Its results for a pool of five recordings, as JSON."""
    folder = tmp_path_factory.mktemp("pool")
    recordings = write_recordings(
        folder, ["ab", "no", "ab", "no", "on"], [0.5, 0.8, 0.65, 0.45, 1.2]
    )
    done = bench(
        *("--model", tiny_model, "--pool", recordings, "--k", 7, "--utterances", 3, "--json"),
        *("--memory", "512MiB", "--threads", 1, "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_rates_follow_from_times_and_times_from_what_was_measured(of_pool: dict[str, Any]) -> None:
    contenders, pool = of_pool["contenders"], of_pool["pool"]
    assert list(contenders) == [LOOP, *METHODS, NO_GRADIENTS, INFERENCE, READING]
    assert pool["recordings"] == 5
    assert pool["audio_seconds"] == pytest.approx(3.6)
    strata = of_pool["strata"]
    assert sum(one["audio_seconds"] for one in strata) == pytest.approx(3.6)
    loop = contenders[LOOP]["pool_seconds"]
    for one in contenders.values():
        # Each stratum's audio at the rate measured there.
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
    # The loop and, on a CPU, the methods work on the one; one inference pass on its neighbors too.
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
    # The norms of 7 hypotheses take at most 7 rows, 4 probes take 4.
    assert 1 <= of_pool["contenders"]["exact"]["bound"]["rows"] <= 7
    assert of_pool["contenders"]["probe --probes 4"]["bound"]["rows"] == 4
    assert any(line.startswith("exact: ") for line in of_pool["in_words"])


def test_facts_of_the_run_are_reported(of_pool: dict[str, Any]) -> None:
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
    assert {LOOP, *METHODS, NO_GRADIENTS, INFERENCE, READING} <= rows
    assert "…" not in done.stdout  # nothing is cut off at 80 columns
    assert "the pool" not in done.stdout
    assert "timed on" not in done.stdout  # three labelings, and none left out


def test_a_pool_has_a_table(tiny_model: Path, recordings: Path) -> None:
    done = bench(
        *("--model", tiny_model, "--pool", recordings, "--k", 6, "--utterances", 2),
        *("--memory", "2GiB"),
    )
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert "4 recordings, 2.4 s of audio; measured: 2 of" in done.stdout
    assert "The estimate rests on 2 recordings" in done.stdout
    assert "timed on 3 labelings" in done.stdout
    assert "--memory allows 2,048 MiB for gradients" in done.stdout


def test_bad_input_is_refused_in_one_line(
    tiny_model: Path, recordings: Path, tmp_path: Path
) -> None:
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
        (["--model", tiny_model, "--pool", unreadable], "has only 2"),
        (["--model", tiny_model, "--pool", unreadable, "--utterances", 2], "none of 2 recordings"),
        (["--model", tiny_model, "--pool", unreadable_timed, "--utterances", 1], "none of 2"),
        (["--model", tiny_model, "--pool", recordings, "--utterances", 5], "--utterances 5: pool"),
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
from egl_fast.benchmarking.comparison import Comparison
right = Comparison.score
def score(self, **options):
    times = 1.1 if options.get("method") == "lowrank" else 1.0
    return [replace(record, egl=times * record.egl) for record in right(self, **options)]
Comparison.score = score
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (WRONG_NORMS, "differ from plain autograd's by 1.0e-02"),
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
