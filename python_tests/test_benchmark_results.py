"""Results of `make bench`: a benchmark writes them in the form that the page and the goals read."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import must_hold  # noqa: E402
from entry import Entry  # noqa: E402

from egl_fast.benchmarking.interleaved import Timings  # noqa: E402


def test_an_entry_looks_like_those_that_are_kept():
    printed = []
    entry = Entry("test_search[other]", printed.append)
    timings = Timings({"egl-fast": [1.0, 2.0], "other": [3.0, 8.0]})
    entry.keep("ctc", timings, title="search", calls=2)
    entry.figure("search_flashlight", 3.5)
    entry.remark("other is timed on a part, and scaled")
    assert entry.facts["rounds"] == 2
    assert "times" not in entry.facts["timings"]["egl-fast"]
    assert entry.facts["timings"]["other"] == {
        "median_s": 5.5,
        "q1_s": 4.25,
        "q3_s": 6.75,
        "times": 3.5,
    }
    assert [line.strip() for line in printed] == [
        "egl-fast: 1500 ms",
        "other: 5500 ms, 3.5 times egl-fast",
        "other is timed on a part, and scaled",
    ]
    kept = json.loads((BENCHMARKS / "results" / "performance.json").read_text())
    for one in kept["benchmarks"]:
        assert {"group", "name", "rounds", "timings"} <= set(one)
        for timing in one["timings"].values():
            assert {*timing, "times"} == set(entry.facts["timings"]["other"])


@pytest.mark.parametrize(("value", "missed"), [(13.0, []), (11.0, ["pipeline_small"])])
def test_goals_are_read_from_entries(value, missed):
    results = {"benchmarks": [{"figures": {"pipeline_small": value}}, {"name": "no figures"}]}
    figures = must_hold.figures(results)
    assert figures == {"pipeline_small": value}
    assert must_hold.missed(figures) == missed
