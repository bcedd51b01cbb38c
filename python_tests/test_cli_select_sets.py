"""``egl-fast select`` where a set is chosen: gates, shares, caps, costs, exclusions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_this_process
from conftest import Run
from embeddings_alone import with_spectra

from egl_fast.embeddings.file import hash_of_embeddings, hash_of_ids
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.selection.gate import FALSE_ALARMS

#: 20 recordings of talk, 8 of song, 4 of noise, which all scores prefer.
KINDS = ["talk"] * 20 + ["song"] * 8 + ["noise"] * 4


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A scores file with embeddings: kinds lie apart; record 1 is a copy of record 0."""
    random = np.random.default_rng(0)
    centers = {"talk": 0.0, "song": 60.0, "noise": -200.0}
    embeddings = np.stack([random.normal(size=16) + centers[kind] for kind in KINDS])
    embeddings[1] = embeddings[0] + 1e-6
    records = [
        {
            "id": f"{number} {kind}",
            "audio_filepath": f"{number}.wav",
            "kind": kind,
            "duration": 2.0,
            "pred_text": "a b c",
            "egl": {"talk": 1.0, "song": 2.0, "noise": 9.0}[kind] + number / 100,
            "typicality": {"talk": -0.1, "song": -0.3, "noise": -2.0}[kind] - number / 1000,
        }
        for number, kind in enumerate(KINDS)
    ]
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    np.save(f"{path}.embeddings.npy", with_spectra(embeddings))
    thresholds = {"typicality": {"thresholds": {f"{FALSE_ALARMS:g}": -1.0}}}
    Path(f"{path}.meta.json").write_text(json.dumps(thresholds))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def refusal(run: Run, scores: Path, *arguments: object) -> str:
    """The one line that a refused command says."""
    status, out, err = run("select", scores, "--budget", 1, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


def picked(scores: Path, *arguments: object) -> list[dict[str, Any]]:
    out = scores.with_name("picks.jsonl")
    assert in_this_process("select", scores, *arguments, "--out", out, "--overwrite") == 0
    return read(out)


def test_the_top_of_the_list_is_all_noise(scores: Path) -> None:
    assert {record["kind"] for record in picked(scores, "--budget", 4)} == {"noise"}


@pytest.mark.parametrize(
    "gate", [("--drop-atypical", "12.5%"), ("--drop-atypical", "auto"), ("--min-typicality", "-1")]
)
def test_the_gate_leaves_noise_out_and_lists_it(scores: Path, gate: tuple[str, str]) -> None:
    picks = picked(scores, "--budget", 4, *gate)
    assert {record["kind"] for record in picks} == {"song"}
    away = read(scores.with_name("picks.jsonl.atypical.jsonl"))
    assert [record["id"] for record in away] == ["31 noise", "30 noise", "29 noise", "28 noise"]
    assert all(record["group"] >= 1 and record["egl"] > 9 for record in away)


def test_a_group_is_taken_back(scores: Path) -> None:
    picked(scores, "--budget", 4, "--drop-atypical", "auto")
    away = read(scores.with_name("picks.jsonl.atypical.jsonl"))
    groups = sorted({record["group"] for record in away})
    back = [argument for group in groups for argument in ("--keep-group", group)]
    picks = picked(scores, "--budget", 4, "--drop-atypical", "auto", *back)
    assert {record["kind"] for record in picks} == {"noise"}
    assert not scores.with_name("picks.jsonl.atypical.jsonl").exists()


@pytest.mark.parametrize(
    "way",
    [
        ("--batch", "clusters"),
        ("--batch", "facility"),
        ("--batch", "kmeans_plusplus"),
        ("--share", "kind"),
    ],
)
def test_a_set_has_every_kind(scores: Path, way: tuple[str, str]) -> None:
    picks = picked(scores, "--budget", "24s", *way)
    assert set(Counter(record["kind"] for record in picks)) == {"talk", "song", "noise"}


def test_no_value_of_a_key_has_more_than_its_cap(scores: Path) -> None:
    picks = picked(scores, "--budget", 6, "--per", "kind=2")
    assert Counter(r["kind"] for r in picks) == {"noise": 2, "song": 2, "talk": 2}


def test_too_few_are_not_typical(scores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Noise has the highest scores, but in a cluster of 4 nothing is typical.
    picks = picked(scores, "--budget", 2, "--batch", "typiclust")
    assert "noise" not in {record["kind"] for record in picks}
    assert "selected 2 of 32 utterances by typiclust" in capsys.readouterr().err


def test_a_free_recording_has_no_place_in_a_set(run: Run, scores: Path) -> None:
    records = read(scores)
    records[2]["pred_text"] = ""
    scores.write_text("".join(json.dumps(record) + "\n" for record in records))
    cost = ("--cost", "0.1*words")
    for way in (("--batch", "facility"), ("--batch", "kmeans_plusplus"), ("--share", "kind")):
        assert "('2 talk'): the model hears no words in it" in refusal(run, scores, *cost, *way)


def test_of_copies_one_is_taken(scores: Path) -> None:
    names = {record["id"] for record in picked(scores, "--budget", 31)}
    assert "1 talk" in names  # its score is the higher one
    assert "0 talk" not in names


def test_what_is_excluded_is_no_candidate(scores: Path) -> None:
    earlier = scores.with_name("earlier.jsonl")
    earlier.write_text('{"id": "31 noise"}\n{"audio_filepath": "30 noise"}\n')
    names = [record["id"] for record in picked(scores, "--budget", 2, "--exclude", earlier)]
    assert names == ["29 noise", "28 noise"]


def test_a_budget_of_money(scores: Path) -> None:
    cost = ("--cost", "1 + 0.5*seconds + 0.1*words")  # 2.3 each
    assert len(picked(scores, "--budget", "6.9", *cost)) == 3
    assert len(picked(scores, "--budget", "6.8", *cost)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "6.9", "--cost", "1 + 0.5*seconds + 0.1*words"), "; cost 6.90 of 6.90\n"),
        (("--budget", "25%", "--cost", "0.001*seconds"), "; cost 0.016\n"),
        (("--budget", "8s", "--cost", "1000"), "; cost 4,000.00\n"),
        (("--budget", "8s"), " s on average\n"),
    ],
)
def test_what_the_picks_cost_is_said(
    scores: Path, run: Run, arguments: tuple[str, ...], said: str
) -> None:
    assert run("select", scores, *arguments)[2].endswith(said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "90%", "--drop-atypical", "25%"), "23 of 32 utterances, all that is left "
         "(turned away by the gate: 8, copies of others: 1)"),
        (("--budget", "1m", "--per", "kind=2"), "6 of 32 utterances, all that is left "
         "(copies of others: 1, beyond --per: 25)"),
        (("--budget", "50", "--cost", "1", "--per", "kind=2", "--drop-atypical", "auto"),
         "4 of 32 utterances, all that is left (turned away by the gate: 4, copies of "
         "others: 1, beyond --per: 23)"),
        (("--budget", "100%",), "31 of 32 utterances, all that is left (copies of others: 1)"),
        (("--budget", "50%", "--drop-atypical", "25%"), None),
        (("--budget", "62s",), None),  # to the second
    ],
)  # fmt: skip
def test_a_budget_that_is_not_spent_is_said(
    scores: Path, run: Run, arguments: tuple[str, ...], said: str | None
) -> None:
    status, _, err = run("select", scores, *arguments)
    assert status == 0
    if said is None:
        assert "is not spent in full" not in err
    else:
        assert f"warning: budget {arguments[1]}: is not spent in full; selected {said}" in err


def test_a_gate_that_leaves_out_nothing_says_so(scores: Path, run: Run) -> None:
    gate = ("--min-typicality", "-9")
    assert (
        "--min-typicality -9: leaves out nothing\n"
        in run("select", scores, "--budget", 1, *gate)[2]
    )


def test_few_trusted_recordings_are_said(scores: Path, run: Run) -> None:
    beside = Path(f"{scores}.meta.json")
    metadata = json.loads(beside.read_text())
    metadata["typicality"]["num_trusted"] = 49
    beside.write_text(json.dumps(metadata))
    said = "warning: only 49 trusted recordings: the threshold of --drop-atypical auto may be off"
    assert said in run("select", scores, "--budget", 1, "--drop-atypical", "auto")[2]
    assert said not in run("select", scores, "--budget", 1, "--drop-atypical", "10%")[2]


def test_a_selection_says_how_it_was_made(scores: Path) -> None:
    picked(scores, "--budget", 4, "--drop-atypical", "12.5%", "--per", "kind=3")
    found = json.loads(scores.with_name("picks.jsonl.meta.json").read_text())
    assert found["scores"] == str(scores)
    assert (found["budget"], found["drop_atypical"], found["per"]) == ("4", "12.5%", [["kind", 3]])
    assert found["num_picks"] == 4
    gate, typicality = found["gate"], [record["typicality"] for record in read(scores)]
    assert gate["option"] == "--drop-atypical 12.5%"
    assert (gate["num_candidates"], gate["seconds"]) == (32, 64.0)
    assert sum(value < gate["threshold"] for value in typicality) == 4
    assert (gate["quantiles"][0], gate["quantiles"][-1]) == (min(typicality), max(typicality))


def test_metadata_of_another_file_are_not_replaced(scores: Path, run: Run) -> None:
    beside = scores.with_name("picks.jsonl.meta.json")
    beside.write_text("{}")
    message = refusal(run, scores, "--out", scores.with_name("picks.jsonl"))
    assert f"{beside}: already exists; give --overwrite" in message
    assert beside.read_text() == "{}"


@pytest.mark.parametrize("said", ["[]", '{"typicality": 5}', '{"typicality": {"thresholds": [1]}}'])
def test_damaged_metadata_are_no_threshold(scores: Path, run: Run, said: str) -> None:
    Path(f"{scores}.meta.json").write_text(said)
    assert run("select", scores, "--budget", 1)[0] == 0
    assert "no calibrated threshold" in refusal(run, scores, "--drop-atypical", "auto")


def test_a_file_of_ones_own_ranks(scores: Path) -> None:
    own = scores.with_name("own.py")
    own.write_text("def score(candidates):\n    return candidates.numbers('typicality')\n")
    [first] = picked(scores, "--budget", 1, "--strategy", f"{own}:score")
    assert first["id"] == "0 talk"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--per", "kind"), "expected KEY=N, such as speaker=5"),
        (("--per", "kind=0"), "expected KEY=N"),
        (("--per", "knid=2"), "per knid: no record holds knid"),
        (("--min-typicality", "nan"), "expected a finite number"),
        (("--min-typicality", "inf"), "expected a finite number"),
        (("--strategy", "shortest/second"), "scores below zero"),
        (("--batch", "clusters", "--seed", "-1"), "--seed"),
        (("--batch", "nonsense"), "batch 'nonsense': unknown; take one of clusters"),
        (("--share", "language"), "no record holds language"),
        (("--share", "kind", "--batch", "clusters"), "--share does nothing beside --batch"),
        (("--cost", "free"), "cost 'free': expected"),
        (
            ("--drop-atypical", "auto", "--keep-group", "99"),
            "--keep-group: there is no group 99",
        ),
        (("--drop-atypical", "all"), "expected a percentage below 100"),
        (("--drop-atypical", "0%", "--keep-group", "4"), "no group 4; of these scores, the gate"),
        (
            ("--budget", "32", "--drop-atypical", "25%"),
            "there are only 23 records left of 32 (turned away by the gate: 8, copies of others: "
            "1); give at most 23, or widen the gate (--drop-atypical 0% opens it)",
        ),
        (("--exclude", "missing.jsonl"), "missing.jsonl"),
        (("--min-typicality", "5"), "nothing is left to select from"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    scores: Path, run: Run, arguments: tuple[str, ...], message: str
) -> None:
    assert message in refusal(run, scores, *arguments)


def test_a_copy_of_what_is_excluded_is_excluded(scores: Path) -> None:
    earlier = scores.with_name("earlier.jsonl")
    earlier.write_text('{"id": "1 talk"}\n')
    names = {record["id"] for record in picked(scores, "--budget", 30, "--exclude", earlier)}
    assert not names & {"0 talk", "1 talk"}


def test_copies_of_what_is_excluded_alone_are_nothing_to_select_from(
    scores: Path, run: Run
) -> None:
    earlier = scores.with_name("earlier.jsonl")
    others = [record["id"] for record in read(scores) if record["id"] != "1 talk"]
    earlier.write_text("".join(json.dumps({"id": name}) + "\n" for name in others))
    assert "every utterance is a copy of an excluded one" in refusal(
        run, scores, "--exclude", earlier
    )


def test_an_exclusion_that_matches_nothing_is_said(scores: Path, run: Run) -> None:
    other = scores.with_name("other.jsonl")
    other.write_text('{"id": "nobody"}\n')
    status, _, err = run("select", scores, "--budget", 1, "--exclude", other)
    assert status == 0
    assert "warning: exclude: none of its ids is in the scores" in err


def test_embeddings_of_records_in_another_order_are_refused(scores: Path, run: Run) -> None:
    records = read(scores)
    metadata = {"typicality": {"ids_sha256": hash_of_ids([record["id"] for record in records])}}
    Path(f"{scores}.meta.json").write_text(json.dumps(metadata))
    assert run("select", scores, "--budget", 1)[0] == 0
    scores.write_text("".join(json.dumps(record) + "\n" for record in reversed(records)))
    assert "belongs to other records, or to these in another order" in refusal(run, scores)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01"])
def test_damaged_embeddings_are_refused(scores: Path, run: Run, content: bytes) -> None:
    Path(f"{scores}.embeddings.npy").write_bytes(content)
    assert "cannot be read" in refusal(run, scores)


def test_embeddings_that_are_no_numbers_are_refused(scores: Path, run: Run) -> None:
    np.save(f"{scores}.embeddings.npy", np.full((32, 2 + SIZE), np.nan, np.float32))
    assert "holds NaN or infinity" in refusal(run, scores)


def test_embeddings_without_scikit_learn_are_refused(
    scores: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install scikit-learn" in refusal(run, scores)


def test_scores_without_their_embeddings_are_said(scores: Path, run: Run) -> None:
    Path(f"{scores}.embeddings.npy").unlink()
    status, _, err = run("select", scores, "--budget", 1)
    assert status == 0
    assert "copies are not recognized" in err


def test_what_a_file_of_ones_own_prints_is_not_among_the_results(scores: Path, run: Run) -> None:
    own = scores.with_name("own.py")
    own.write_text("print('loaded')\ndef score(c):\n    print('hi')\n    return c.numbers('egl')\n")
    status, out, err = run("select", scores, "--budget", 1, "--strategy", f"{own}:score")
    assert status == 0
    assert json.loads(out)["id"] == "31 noise"
    assert "loaded" in err


def test_embeddings_of_other_scores_are_refused(scores: Path, run: Run) -> None:
    np.save(f"{scores}.embeddings.npy", np.zeros((3, 2 + SIZE), np.float32))
    message = refusal(run, scores)
    assert "for 32 records; it belongs to another" in message


def test_embeddings_of_as_many_other_recordings_are_refused(scores: Path, run: Run) -> None:
    path = Path(f"{scores}.embeddings.npy")
    facts = json.loads(Path(f"{scores}.meta.json").read_text())
    facts["typicality"]["embeddings_sha256"] = hash_of_embeddings(np.load(path))
    Path(f"{scores}.meta.json").write_text(json.dumps(facts))
    assert run("select", scores, "--budget", 1)[0] == 0
    np.save(path, np.load(path)[::-1])
    assert "belongs to another scores file" in refusal(run, scores)


def test_auto_needs_a_calibrated_threshold(scores: Path, run: Run) -> None:
    Path(f"{scores}.meta.json").unlink()
    message = refusal(run, scores, "--drop-atypical", "auto")
    assert "holds no calibrated threshold" in message


def test_all_that_is_excluded_is_counted(scores: Path, run: Run) -> None:
    """The gate leaves out noise, excluded or not."""
    earlier = scores.with_name("earlier.jsonl")
    earlier.write_text('{"id": "5 talk"}\n{"id": "31 noise"}\n')
    err = run("select", scores, "--budget", 1, "--drop-atypical", "12.5%", "--exclude", earlier)[2]
    assert "leaves out 4 atypical utterances" in err
    assert "not candidates: 2 excluded utterances, 1 copies of others" in err


def test_scores_joined_by_hand_have_lost_the_gate(scores: Path, run: Run) -> None:
    joined = scores.with_name("joined.jsonl")
    joined.write_bytes(scores.read_bytes())
    err = run("select", joined, "--budget", 1)[2]
    assert "(files joined by hand have none: `egl-fast merge` joins shards)" in err
    without = [{k: v for k, v in one.items() if k != "typicality"} for one in read(scores)]
    joined.write_text("".join(json.dumps(one) + "\n" for one in without))
    err = run("select", joined, "--budget", 1)[2]
    assert "(if these are shards that were joined by hand, join them with `egl-fast merge`)" in err
