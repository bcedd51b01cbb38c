"""``egl_fast.select`` chooses what the command chooses, and says what is amiss."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_this_process
from conftest import Run
from embeddings_alone import with_spectra

import egl_fast
from egl_fast.embeddings.file import hash_of_ids
from egl_fast.errors import SelectionError
from egl_fast.selection.gate import FALSE_ALARMS

#: 20 recordings of talk, 8 of song, and 4 of noise, which the scores prefer.
KINDS = ["talk"] * 20 + ["song"] * 8 + ["noise"] * 4
RECORDS: list[dict[str, Any]] = [
    {
        "id": f"{number} {kind}",
        "audio_filepath": f"/{number}.wav",
        "kind": kind,
        "duration": 2.0,
        "pred_text": "a b c",
        "egl": {"talk": 1.0, "song": 2.0, "noise": 9.0}[kind] + number / 100,
        "typicality": {"talk": -0.1, "song": -0.3, "noise": -2.0}[kind] - number / 1000,
    }
    for number, kind in enumerate(KINDS)
]


def written(folder: Path, **more: object) -> Path:
    """A scores file with embeddings and metadata; record 1 is a copy of record 0."""
    random = np.random.default_rng(0)
    centers = {"talk": 0.0, "song": 60.0, "noise": -200.0}
    embeddings = np.stack([random.normal(size=16) + centers[kind] for kind in KINDS])
    embeddings[1] = embeddings[0] + 1e-6
    path = folder / "scores.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    np.save(f"{path}.embeddings.npy", with_spectra(embeddings))
    typicality = {
        "thresholds": {f"{FALSE_ALARMS:g}": -1.0},
        "num_trusted": 60,
        "ids_sha256": hash_of_ids([record["id"] for record in RECORDS]),
    }
    metadata = {"typicality": typicality, "num_scored": len(RECORDS), **more}
    Path(f"{path}.meta.json").write_text(json.dumps(metadata))
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    return written(tmp_path)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, ()),
        ({"drop_atypical": 0}, ("--drop-atypical", "0%")),
        ({"drop_atypical": 0.25}, ("--drop-atypical", "25%")),
        ({"drop_atypical": "25%"}, ("--drop-atypical", "25%")),
        ({"drop_atypical": "auto"}, ("--drop-atypical", "auto")),
        ({"min_typicality": -0.12}, ("--min-typicality", "-0.12")),
        ({"strategy": "typicality.py:score"}, ("--strategy", "typicality.py:score")),
        ({"batch": "clusters", "seed": 3}, ("--batch", "clusters", "--seed", "3")),
        ({"share": "kind"}, ("--share", "kind")),
        ({"per": {"kind": 1}}, ("--per", "kind=1")),
        ({"cost": "1*seconds", "budget": "8"}, ("--cost", "1*seconds", "--budget", "8")),
        ({"exclude": ["27 song"]}, ("--exclude", "earlier.jsonl")),
        ({"keep_group": [1]}, ("--keep-group", "1")),
    ],
    ids=str,
)
def test_it_picks_what_the_command_picks(
    scores: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(scores.parent)
    Path("earlier.jsonl").write_text('{"id": "27 song"}\n')
    Path("typicality.py").write_text(
        "def score(candidates):\n    return candidates.numbers('typicality')\n"
    )
    read = egl_fast.read_scores(scores)
    picks = egl_fast.select(read, **{"budget": "20%", **options})
    given = ("select", "scores.jsonl", "--budget", "20%", *arguments, "--out", "picks.jsonl")
    assert in_this_process(*given) == 0
    chosen = [json.loads(line) for line in Path("picks.jsonl").read_text().splitlines()]
    assert [read[index]["id"] for index in picks] == [record["id"] for record in chosen]


def test_the_gate_is_closed_by_default(scores: Path) -> None:
    read = egl_fast.read_scores(scores)
    assert {KINDS[index] for index in egl_fast.select(read, budget=4)} == {"song"}
    everything = egl_fast.select(read, budget=4, drop_atypical=0)
    assert {KINDS[index] for index in everything} == {"noise"}


def test_scores_are_a_sequence_with_what_is_beside_the_file(scores: Path) -> None:
    read = egl_fast.read_scores(str(scores))
    assert isinstance(read, egl_fast.Scores)
    assert (len(read), repr(read), list(read)) == (32, "Scores(32 records)", RECORDS)
    assert read.metadata["num_scored"] == 32
    assert read.embeddings is not None
    assert read.embeddings.shape == (32, 16)
    some = read[-4:]
    assert isinstance(some, egl_fast.Scores)
    assert (some[0]["id"], some.metadata) == ("28 noise", read.metadata)
    assert np.array_equal(np.asarray(some.embeddings), read.embeddings[28:])
    assert egl_fast.to_dataframe(read, library="polars").height == 32


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("scores.jsonl", r"got a path; give read_scores\('scores.jsonl'\)"),
        (Path("scores.jsonl"), "got a path"),
        (iter(RECORDS), "got list_iterator; give list"),
        (RECORDS[0], "got dict"),
        ([1], "record 1: expected a list of score records, .* got int"),
        ([RECORDS[0], "a"], "record 2: .* got str"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_list_of_records_is_said(records: Any, message: str) -> None:
    with pytest.raises(SelectionError, match=message) as caught:
        egl_fast.select(records, budget=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_table_is_refused_with_the_remedy(library: Any) -> None:
    pytest.importorskip(library)
    table = egl_fast.to_dataframe(RECORDS, library=library)
    with pytest.raises(SelectionError, match=r"got a DataFrame, .*; give the records that"):
        egl_fast.select(table, budget=1)


@pytest.mark.parametrize("drop", [10, 1.0, -0.1, float("nan"), True, "10", [0.1]])
def test_what_is_no_share_is_refused(scores: Path, drop: Any) -> None:
    with pytest.raises(SelectionError, match="expected a percentage below 100"):
        egl_fast.select(egl_fast.read_scores(scores), budget=1, drop_atypical=drop)


def test_typicality_without_its_threshold_is_warned_of() -> None:
    with pytest.warns(egl_fast.EglWarning, match="were not left out; .*give what egl_fast.read"):
        egl_fast.select(RECORDS, budget=1)
    without = [{k: v for k, v in record.items() if k != "typicality"} for record in RECORDS]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        egl_fast.select(without, budget=1)
        egl_fast.select(RECORDS, budget=1, drop_atypical=0.1)


def of_metadata(**more: object) -> Callable[[Path], Path]:
    return lambda folder: written(folder, **more)


def in_part(folder: Path) -> Path:
    path = written(folder)
    records = [{**record, "typicality": None} for record in RECORDS[:5]]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    Path(f"{path}.embeddings.npy").unlink()
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_metadata(shard="2/4"), "the scores of shard 2/4 alone; .*put the shards together with"),
        (in_part, "tells of 32 records, but there are 5: the file was filtered or joined"),
        (of_metadata(num_scored=16, shard="2/4"), "tells of 16 records, but there are 32"),
    ],
)
def test_scores_that_are_not_of_one_pool_are_said(
    tmp_path: Path, run: Run, make: Callable[[Path], Path], said: str
) -> None:
    path = make(tmp_path)
    with pytest.warns(egl_fast.EglWarning, match=said):
        egl_fast.read_scores(path)
    err = run("select", path, "--budget", 1)[2]
    assert "warning: scores " in err


@pytest.mark.parametrize(
    ("metadata", "remedy"),
    [
        ({}, "keep the scores' .meta.json, which holds the threshold, beside them"),
        ({"typicality": {"thresholds": {"0.02": -1}, "num_trusted": 49}}, "give --drop-atypical"),
        ({"shard": "1/2", "trusted_sha256": "0"}, "put the shards together with `egl-fast merge`"),
    ],
)
def test_an_open_gate_comes_with_what_closes_it(
    scores: Path, run: Run, metadata: dict[str, Any], remedy: str
) -> None:
    Path(f"{scores}.meta.json").write_text(json.dumps(metadata))
    err = run("select", scores, "--budget", 1)[2]
    assert (
        f"noise, music, and other languages were not left out; to leave them out, {remedy}" in err
    )
    assert "not left out" not in run("select", scores, "--budget", 1, "--drop-atypical", "0%")[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "speaker=1"}, "per: expected a mapping"),
        ({"keep_group": 4}, "keep_group: expected numbers"),
        ({"exclude": "picks.jsonl"}, "exclude: expected ids"),
        ({"exclude": [{"id": "a"}]}, "exclude: expected ids"),
    ],
)
def test_options_of_another_kind_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        egl_fast.select([{"pctc": 1.0, "duration": 1.0}], budget=1, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_atypical": "ten"}, "drop_atypical='ten': expected a percentage"),
        ({"min_typicality": float("inf")}, "min_typicality=inf: expected a finite number"),
        ({"drop_atypical": 0, "keep_group": [4]}, "keep_group: there is no group 4"),
        ({"budget": 33}, r"give at most 27, or widen the gate \(drop_atypical='0%' opens it\)"),
    ],
)
def test_messages_name_arguments(scores: Path, options: dict[str, Any], message: str) -> None:
    """Where the command names options."""
    with pytest.raises(SelectionError, match=message):
        egl_fast.select(egl_fast.read_scores(scores), **{"budget": 1, **options})
