"""``egl-fast report --scores``: what the gate leaves out, of a scored pool and of a selection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_this_process
from embeddings_alone import with_spectra
from report_pages import HOSTILE, Page, refusal, run

from egl_fast.evaluation.reporting import gate_section
from egl_fast.selection.gate import FALSE_ALARMS, quantiles

#: Of the sample's 64: 6 of one kind lie far apart, 3 of another farther.
KINDS = np.repeat(["speech", "hum", "hiss"], [55, 6, 3])
TYPICALITY = {"speech": -0.05, "hum": -0.8, "hiss": -1.2}


@pytest.fixture
def scores(tmp_path: Path, records: list[dict[str, Any]], examples: Path) -> Path:
    """Scores with typicality, embeddings, and a calibrated threshold of -0.5."""
    random = np.random.default_rng(0)
    centers = {"speech": 0.0, "hum": 50.0, "hiss": -200.0}
    embeddings = np.stack([random.normal(size=8) + centers[kind] for kind in KINDS])
    path = tmp_path / "scores.jsonl"
    lines = [
        {**record, "typicality": TYPICALITY[kind] - at / 1000}
        for at, (record, kind) in enumerate(zip(records, KINDS.tolist(), strict=True))
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.save(f"{path}.embeddings.npy", with_spectra(embeddings))
    trusted = np.linspace(-0.6, 0.1, 100)
    typicality = {
        "num_trusted": 100,
        "thresholds": {f"{FALSE_ALARMS:g}": -0.5},
        "quantiles": quantiles(trusted),
    }
    metadata = {"pool": str(examples / "pool.jsonl"), "typicality": typicality}
    Path(f"{path}.meta.json").write_text(json.dumps(metadata))
    return path


def page_of(path: Path, *arguments: object) -> Page:
    run("--scores", path, "--overwrite", *arguments)
    return Page(path.with_name(f"{path.name}.html"))


def select(scores: Path, *arguments: object) -> Path:
    out = scores.with_name("picks.jsonl")
    given = ("--budget", "25%", "--out", out, "--overwrite")
    assert in_this_process("select", scores, *given, *arguments) == 0
    return out


def numbers_of(page: Page) -> list[str]:
    return [name.removeprefix("group-") for name in page.ids if name.startswith("group-")]


def test_a_scored_pool_shows_what_a_gate_would_leave_out(scores: Path) -> None:
    page = page_of(scores, "--audio", 3)
    assert "gate" in page.ids
    assert "What the gate would leave out" in page.text
    assert "--drop-atypical auto would leave out 9 of 64 recordings" in page.text
    assert "those with a typicality below −0.50" in page.text
    assert "14% of the trusted recordings lie below that threshold, too" in page.text
    away = select(scores, "--drop-atypical", "auto").with_name("picks.jsonl.atypical.jsonl")
    listed = [json.loads(line)["group"] for line in away.read_text().splitlines()]
    assert len(listed) == 9
    assert numbers_of(page) == [str(number) for number in sorted(set(listed))]
    for number in set(listed):
        assert f"--drop-atypical auto --keep-group {number}" in page.text
    # The least typical, the middle, and the most typical of a group of six.
    assert page.text.count("least typical") == page.text.count("most typical") == len(set(listed))


def test_a_selection_shows_what_was_left_out(scores: Path) -> None:
    away = select(scores, "--drop-atypical", "auto")
    listed = Path(f"{away}.atypical.jsonl").read_text().splitlines()
    groups = [json.loads(line)["group"] for line in listed]
    number = groups[0]
    picks = select(scores, "--drop-atypical", "auto", "--keep-group", number)
    page = page_of(picks, "--audio", 1)
    assert "16 recordings of a pool of 64" in page.text
    left = len(groups) - groups.count(number)
    assert f"--drop-atypical auto left out {left} of 64 recordings" in page.text
    assert f"except for group {number}, taken back" in page.text
    assert str(number) not in numbers_of(page)
    other = numbers_of(page)[0]
    assert f"--drop-atypical auto --keep-group {number} --keep-group {other}" in page.text
    assert "belongs to other scores" not in page.text
    assert len(page.all("audio")) >= len(numbers_of(page))


def test_typicality_is_drawn_with_the_threshold_between_bins(scores: Path) -> None:
    drawn = page_of(scores, "--no-audio").data["typicality"]
    assert drawn["threshold"] == -0.5
    for name in ("pool", "trusted"):
        rows = [row for row in drawn["rows"] if row["of"] == name]
        # Shares are rounded to four decimals.
        assert sum(row["share"] for row in rows) == pytest.approx(100, abs=5e-5 * len(rows))
        for row in rows:
            assert not row["low"] < -0.5 - 1e-6 < row["high"] - 2e-6
            assert row["out"] == (row["high"] <= -0.5 + 1e-6)
    out = sum(row["share"] for row in drawn["rows"] if row["of"] == "pool" and row["out"])
    assert out == pytest.approx(100 * 9 / 64, abs=2e-4)


def test_a_few_outliers_are_drawn_where_they_are(scores: Path) -> None:
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    for line in lines:
        line["typicality"] = -0.05
    lines[3]["typicality"], lines[9]["typicality"] = -2.8, -50.0
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (scores, select(scores, "--drop-atypical", "auto")):
        page = page_of(path, "--no-audio")
        rows = [row for row in page.data["typicality"]["rows"] if row["of"] == "pool"]
        assert [row["share"] for row in rows] == [1.5625, 1.5625, 96.875]
        assert [row["said"].partition(",")[0] for row in rows] == [
            "1 recording", "1 recording", "62 recordings",
        ]  # fmt: skip
        assert rows[0]["low"] == pytest.approx(-3, abs=0.1)  # what is below is in the first bar
        assert rows[1]["low"] <= -2.8 < rows[1]["high"]
        assert rows[2]["low"] <= -0.05 <= rows[2]["high"]
        assert page.data["typicality"]["isCut"]


def test_a_pool_without_a_gate_has_no_such_section(
    scores: Path, records: list[dict[str, Any]]
) -> None:
    plain = scores.with_name("plain.jsonl")
    plain.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "gate" not in page_of(plain, "--no-audio").ids
    assert "gate" not in page_of(select(plain), "--no-audio").ids


def test_a_gate_that_leaves_out_nothing_says_so(scores: Path) -> None:
    page = page_of(select(scores, "--min-typicality", "-9"), "--no-audio")
    assert "--min-typicality -9 left out nothing." in page.text
    assert page.data["typicality"]["threshold"] is None  # beyond the chart


def test_scores_without_a_threshold_say_so(scores: Path) -> None:
    Path(f"{scores}.meta.json").write_text(json.dumps({"pool": str(scores)}))
    page = page_of(scores, "--no-audio")
    assert "holds no calibrated threshold" in page.text
    assert {row["of"] for row in page.data["typicality"]["rows"]} == {"pool"}


def test_few_trusted_recordings_are_said_at_the_top(scores: Path) -> None:
    beside = Path(f"{scores}.meta.json")
    metadata = json.loads(beside.read_text())
    metadata["typicality"]["num_trusted"] = 20
    beside.write_text(json.dumps(metadata))
    for path in (scores, select(scores, "--drop-atypical", "auto")):
        text = page_of(path, "--no-audio").text
        assert "Warning: There are only 20 trusted recordings" in text[: text.index("Rank")]
    picks = select(scores, "--drop-atypical", "10%")
    assert "20 trusted recordings" not in page_of(picks, "--no-audio").text


def test_without_the_embeddings_all_is_one_group(scores: Path) -> None:
    Path(f"{scores}.embeddings.npy").unlink()
    assert numbers_of(page_of(scores, "--audio", 1)) == ["1"]
    Path(f"{scores}.embeddings.npy").write_bytes(b"")
    page = page_of(scores, "--audio", 1)
    assert numbers_of(page) == ["1"]
    assert "What the gate leaves out is not grouped" in page.text[: page.text.index("Findings")]


def test_every_group_is_heard_before_the_page_is_full(
    scores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_groups = numbers_of(page_of(scores, "--audio", 3))
    assert len(all_groups) > 1
    monkeypatch.setattr(gate_section, "MAX_MEDIA_BYTES", 1)
    page = page_of(scores, "--audio", 3)
    assert numbers_of(page) == all_groups[:1]
    silent = len(all_groups) - 1
    assert f"{silent} of {len(all_groups)} groups are without players" in page.text


def test_what_cannot_be_played_is_said(scores: Path) -> None:
    lines = [json.loads(line) for line in scores.read_text().splitlines()]
    lines[-1]["audio_filepath"] = "gone.wav"
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = run("--scores", scores, "--audio", 3)
    assert "1 of the 6 atypical recordings cannot be played; their rows say why" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "duration": 1, "typicality": -1}', "line 1: holds no group"),
        ('{"id": "a", "duration": 1, "typicality": "x", "group": 1}', "'typicality' is 'x', not"),
        ('{"duration": 1, "typicality": -1, "group": 1}', "line 1: holds no id"),
    ],
)
def test_a_damaged_list_is_refused(scores: Path, line: str, message: str) -> None:
    picks = select(scores)
    Path(f"{picks}.atypical.jsonl").write_text(line + "\n")
    assert message in refusal("--scores", picks)


@pytest.mark.parametrize(
    "gate",
    [
        {}, {"option": 5, "threshold": "x", "kept_groups": 1, "quantiles": [1, "a"]},
        {"option": HOSTILE, "threshold": 1e300, "kept_groups": [HOSTILE], "num_candidates": -1},
        {"quantiles": [2.0, 1.0], "seconds": float("nan")}, {"quantiles": [0.0, 0.0]},
        {"quantiles": [-1e9, 1e9], "threshold": 0.5},
        {"histogram": {"edges": [0, 1], "counts": [1, 1]}}, {"histogram": {"counts": [-1]}},
        {"histogram": {"edges": [0, 0], "counts": [0]}}, {"histogram": [HOSTILE]},
        {"histogram": {"edges": [0, 0, 0], "counts": [1, 2]}, "threshold": 0.0},
    ],
)  # fmt: skip
def test_damaged_metadata_make_a_page_all_the_same(scores: Path, gate: dict[str, Any]) -> None:
    picks = select(scores, "--drop-atypical", "auto")
    Path(f"{picks}.meta.json").write_text(json.dumps({"gate": gate, "typicality": [1]}))
    page = page_of(picks, "--audio", 1)
    assert "left out 9" in page.text
    assert "window.pwned" not in "".join(page.scripts[1:])
