"""``egl-fast report --scores picks.jsonl``: a page of picks, which knows nothing of their pool."""

import json

import numpy as np
import pytest
from commands import in_this_process
from report_pages import Page, refusal, run
from test_report_picks import write_pool

from egl_fast.evaluation.reporting.made_selection import made_selection
from egl_fast.evaluation.reporting.scores_file import read_scores_file


@pytest.fixture
def pool(tmp_path, records, examples):
    """Scores that can be heard, 10 of 64 atypical, and how they were made."""
    heard = [
        {**record, "audio_filepath": str(examples / record["audio_filepath"])} for record in records
    ]
    path = write_pool(tmp_path, heard)
    meta = path.with_name("scores.jsonl.meta.json")
    said = {**json.loads(meta.read_text()), "model": "/home/jane/base.pt", "num_scored": 64}
    meta.write_text(json.dumps({**said, "pool": "/home/jane/pool.jsonl"}))
    return path


def select(pool, *arguments, out="picks.jsonl"):
    path = pool.with_name(out)
    given = ["select", pool, "--out", path, "--overwrite", "-q"]
    assert in_this_process(*given, *arguments) == 0
    return path


def page_of(path, *arguments):
    run("--scores", path, "--overwrite", *(arguments or ["--no-audio"]))
    return Page(path.with_name(f"{path.name}.html"))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_page_of_picks_says_what_it_is(pool):
    picks = select(pool, "--budget", "20%")
    page = page_of(picks, "--audio", "2")
    assert "Which recordings were picked?" in page.text
    assert (
        "13 recordings of a pool of 64, picked for a budget of 20%: those with the highest pCTC "
        "among those that pass the gate (--drop-atypical auto)." in page.text
    )
    assert "egl-fast report --scores scores.jsonl" in page.text
    assert "Scores: model base.pt, pool pool.jsonl, K = 20, method exact." in page.text
    command = "egl-fast select scores.jsonl --budget 20% --strategy pctc --drop-atypical auto"
    assert f"Made by {command}" in page.text
    assert "jane" not in page.text
    assert "Keep the first" in page.text
    assert {"label", "picked", "listen", "gate"} <= set(page.ids)


def test_nothing_on_it_is_said_of_a_pool(pool):
    """Twenty percent of the picks are not twenty percent of the pool, nor are ranks among them."""
    page = page_of(select(pool, "--budget", "20%"), "--audio", "2")
    for words in (
        "whole pool",
        "of the pool,",
        "Rank in the pool",
        "by chance",
        "at 20%",
        "prefer",
    ):
        assert words not in page.text.replace("of a pool of", ""), words
    assert not {"findings", "scores", "rankings", "ranks", "durations"} & set(page.ids)
    assert not {"ranking", "durations", "histograms"} & set(page.data)
    assert not [phrase for phrase in page.data["picks"]["phrases"] if "higher than" in phrase]


def test_its_numbers_are_those_of_the_file(pool):
    picks = select(pool, "--budget", "9", "--strategy", "egl_normalized/second")
    page, chosen = page_of(picks, "--audio", "2"), lines(picks)
    rows = page.data["picks"]["rows"]
    assert [row["id"] for row in rows] == [one["id"] for one in chosen]
    expected = [one["egl_normalized"] / one["duration"] for one in chosen]
    assert [row["score"] for row in rows] == pytest.approx(expected, rel=1e-12)
    assert page.data["picks"]["label"] == "EGL normalized per second"
    seconds = [one["duration"] for one in chosen]
    assert f"{sum(seconds):.1f} s" in page.text.replace("\xa0", " ")
    table = page.html[page.html.index("How long the picks are") :]
    table = table[: table.index("</table>")].replace("\xa0", " ")
    assert f">{np.mean(seconds):.2f} s<" in table
    assert f">{np.median(seconds):.2f} s<" in table
    for corpus in {one["corpus"] for one in chosen}:
        share = np.mean([one["corpus"] == corpus for one in chosen])
        assert f">{100 * share:.1f}%<" in page.html
    # What is heard first is what was picked first.
    assert [
        int(one["id"].split("-")[1]) for one in page.all("tr") if "pick-" in one.get("id", "")
    ] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "random"], "drawn at random among those that pass the gate"),
        (["--batch", "clusters"], "a varied set by --batch clusters, with high pCTC among"),
        (["--batch", "typiclust"], "a varied set by --batch typiclust among those"),
        (["--share", "speaker"], "those with the highest pCTC of each speaker among those"),
        (["--per", "speaker=1", "--drop-atypical", "0%"], "highest pCTC, at most 1 per speaker."),
        (["--strategy", "STRATEGY"], "those with the highest mine.py:score among those"),
    ],
)  # fmt: skip
def test_how_they_were_picked_is_said_in_words(pool, tmp_path, arguments, said):
    own = tmp_path / "private" / "mine.py"
    own.parent.mkdir()
    own.write_text("def score(candidates):\n    return [1.0] * len(candidates)\n")
    given = [f"{own}:score" if one == "STRATEGY" else one for one in arguments]
    page = page_of(select(pool, "--budget", "6", *given))
    assert said in page.text
    # Of an unknown strategy, there is no score to show, or to save as one.
    is_known = not {"STRATEGY", "typiclust"} & set(arguments)
    assert ["score" in row for row in page.data["picks"]["rows"]] == [is_known] * 6
    assert "private" not in page.text


def test_excluded_files_are_in_the_command(pool):
    first = select(pool, "--budget", "5", out="first.jsonl")
    second = select(pool, "--budget", "5", "--exclude", first, "--seed", "7", "--batch", "clusters")
    text = page_of(second).text
    assert "without those of --exclude" in text
    assert "--batch clusters --drop-atypical auto --exclude first.jsonl --seed 7" in text


def test_picks_without_metadata_are_known_by_their_ranks(pool):
    picks = select(pool, "--budget", "20%")
    lonely = pool.with_name("lonely.jsonl")
    lonely.write_text(picks.read_text())
    page = page_of(lonely)
    assert "picked? 13 recordings. picks 13" in page.text
    assert "lonely.jsonl.meta.json, which says how they were made" in page.text
    assert "egl-fast report --scores SCORES" in page.text
    assert made_selection(read_scores_file(lonely)) is not None
    # Picks that were scored again are a pool, although their lines keep a rank.
    lonely.with_name("lonely.jsonl.meta.json").write_text(json.dumps({"num_scored": 13}))
    assert made_selection(read_scores_file(lonely)) is None


def test_rank_against_rank_takes_a_pool(pool):
    picks = select(pool, "--budget", "20%")
    assert refusal("--scores", picks, "--figures", pool.parent / "f").endswith(
        "picks.jsonl holds picks; give --scores scores.jsonl"
    )


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.cuts.jsonl", "hf"])
def test_other_formats_of_picks_are_refused_in_a_line(pool, name):
    given = ["--format", "hf"] if name == "hf" else []
    picks = select(pool, "--budget", "3", *given, out=name)
    line = refusal("--scores", picks)
    assert (
        "give what `egl-fast score` wrote, or what `select` or `query` wrote as JSON Lines" in line
    )


def test_a_file_in_place_of_a_run_folder_gets_a_line(pool):
    line = refusal(select(pool, "--budget", "3"))
    assert line.endswith("is a file, not a run folder; for scores or picks, give --scores FILE")


def test_shares_are_compared_with_what_could_be_picked(pool, records):
    """By hand: 10 are left out and 2 are copies, so 52 candidates; chance is 13 of these."""
    page = page_of(pool)
    assert "by chance: 25%" in page.text
    caption = "Share of the picks by corpus, and the ratio to its share of the candidates"
    assert caption in page.text
    assert "all candidates" in page.text
    away = {at for at in range(64) if at % 6 == 5}
    copies = {7, 20, 33} - away
    by_pctc = sorted(copies, key=lambda at: -records[at]["pctc"])
    left = [at for at in range(64) if at not in away and at not in by_pctc[1:]]
    assert len(left) == 52
    mean = np.mean([records[at]["duration"] for at in left])
    assert f"the average of the candidates is {mean:.1f} s" in page.text.replace("\xa0", " ")


def test_speakers_without_a_name_are_not_counted(pool):
    picks = select(pool, "--budget", "9", "--drop-atypical", "0%")
    some = [{**one, "speaker": one["speaker"] if at else ""} for at, one in enumerate(lines(picks))]
    del some[1]["speaker"]
    picks.write_text("".join(json.dumps(one) + "\n" for one in some))
    number = len({one["speaker"] for one in some if one.get("speaker")})
    page = page_of(picks)
    assert f"speakers {number} " in page.text
    table = page.html[page.html.index("How long the picks are") :]
    assert f">{number}<" in table[: table.index("</table>")]
