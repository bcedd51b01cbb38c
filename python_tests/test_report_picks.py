"""What a page says about what to label: `select`'s own order, and reasons that the records give."""

import json
import math

import numpy as np
import pytest
from commands import in_this_process
from embeddings_alone import with_spectra
from report_pages import Page, refusal, run

from egl_fast.embeddings.file import embeddings_path
from egl_fast.evaluation.reporting.differences import marked
from egl_fast.evaluation.reporting.latex import escaped
from egl_fast.evaluation.reporting.pick_list import MAX_ROWS
from egl_fast.evaluation.reporting.pick_order import pick_order
from egl_fast.evaluation.reporting.scores_file import read_scores_file


def write_pool(folder, records, *, num_trusted=60, **changed):
    """A pool scored with --typicality: 10 outliers, and three copies of one recording."""
    path = folder / "scores.jsonl"
    lines = [
        {**record, "typicality": -1.0 if at % 6 == 5 else 0.01 * (at % 7), **changed}
        for at, record in enumerate(records)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    embeddings = np.random.default_rng(0).normal(size=(len(records), 16)).astype(np.float32)
    embeddings[[7, 20, 33]] = embeddings[7]
    np.save(embeddings_path(path), with_spectra(embeddings))
    typicality = {
        "num_trusted": num_trusted,
        "thresholds": {"0.02": -0.5},
        "quantiles": [at / 1000 - 0.04 for at in range(101)],
    }
    said = {"typicality": typicality, "k": 20, "method": "exact"}
    (folder / "scores.jsonl.meta.json").write_text(json.dumps(said))
    return path


def picks_of(path, *arguments):
    run("--scores", path, "--no-audio", "--overwrite", *arguments)
    return Page(path.with_name(f"{path.name}.html"))


def ids(page):
    return [row["id"] for row in page.data["picks"]["rows"]]


@pytest.mark.parametrize(
    ("budget", "num_trusted"), [(["--budget", "100%"], 60), (["--budget", "12"], 49)]
)
def test_the_list_is_that_of_select(tmp_path, records, budget, num_trusted):
    path = write_pool(tmp_path, records, num_trusted=num_trusted)
    assert in_this_process("select", path, *budget, "--out", tmp_path / "p.jsonl", "-q") == 0
    chosen = [json.loads(line)["id"] for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    page = picks_of(path)
    assert ids(page)[: len(chosen)] == chosen
    assert len(ids(page)) == (52 if num_trusted == 60 else 62)
    assert ("--drop-atypical auto leaves out 10 recordings" in page.text) == (num_trusted == 60)
    assert "Of copies of a recording one is taken; 2 recordings left out." in page.text


def test_every_strategy_picks_behind_the_gate(tmp_path, records):
    path = write_pool(tmp_path, records)
    page = picks_of(path)
    said = "As with select, without what the gate leaves out and further copies of a recording."
    assert page.text.count(said) >= 2  # of what each picked, and in a finding or to listen to
    pool = read_scores_file(path, keep_ids=True)
    order = pick_order(pool)
    for strategy, scores in pool.strategies.items():
        out = tmp_path / "p.jsonl"
        chosen = ["select", path, "--budget", "20%", "--strategy", strategy, "--out", out, "-q"]
        assert in_this_process(*chosen, "--overwrite") == 0
        expected = [json.loads(line)["id"] for line in out.read_text().splitlines()]
        assert [pool.ids[at] for at in order.first(scores, 13)] == expected


def test_missing_files_are_named_in_one_line(tmp_path, records):
    path = write_pool(tmp_path, records)
    embeddings_path(path).unlink()
    path.with_name("scores.jsonl.meta.json").unlink()
    line = (
        "Not beside the scores: scores.jsonl.meta.json (how they were made, and where the gate "
        "cuts) and scores.jsonl.embeddings.npy (which recordings are copies)."
    )
    assert picks_of(path).text.count(line) == 1
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = picks_of(path)
    assert "Not beside the scores: scores.jsonl.meta.json (how they were made" in page.text
    assert "Warning" not in page.text


def test_only_scores_with_error_bars_are_headed_by_them(tmp_path, records):
    path = write_pool(tmp_path, records)
    section = picks_of(path).html
    assert "Score</th>" in section[section.index('id="budget-list"') :].partition("<tbody")[0]


def test_what_closes_an_open_gate_is_what_is_missing(tmp_path, records):
    path = write_pool(tmp_path, records)
    closed = "other languages are not left out"
    assert closed not in picks_of(path).text
    # Filtered scores: these were made with --typicality, which need not be done again.
    some = tmp_path / "some.jsonl"
    some.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    page = picks_of(some)
    assert f"{closed}: for that, keep the scores' .meta.json, which holds the" in page.text
    assert "with --typicality" not in page.text
    meta = path.with_name("scores.jsonl.meta.json")
    meta.write_text(json.dumps({"shard": "2/4", "trusted_sha256": "0"}))
    page = picks_of(path)
    assert "for that, put the shards together with `egl-fast merge`" in page.text
    assert "these are the scores of shard 2/4 alone" in page.text
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    meta.unlink()
    assert (
        f"{closed}: for that, score the pool with `egl-fast score --typicality`"
        in picks_of(path).text
    )


def test_a_page_is_not_named_like_picks(tmp_path, records):
    path = write_pool(tmp_path, records)
    line = refusal("--scores", path, "--out", tmp_path / "picks.csv")
    assert line.endswith(
        "picks.csv: is named like csv, but a page is written; name it picks.html, or write csv "
        "with `select`"
    )
    assert "--format does nothing without --scores" in refusal(tmp_path, "--format", "nemo")
    assert "--audio-root does nothing without --format label-studio" in refusal(
        "--scores", path, "--audio-root", tmp_path
    )
    assert "is not in --audio-root" in refusal(
        "--scores", path, "--no-audio", "--format", "label-studio", "--audio-root", "/no"
    )


def test_copies_and_outliers_are_marked(tmp_path, records):
    page = picks_of(write_pool(tmp_path, records, num_trusted=49))
    opened = "other languages are not left out: for that, give --drop-atypical auto or a percentage"
    assert (
        f"{opened}: the gate is not the default with fewer than 50 trusted recordings." in page.text
    )
    rows = page.data["picks"]["rows"]
    [stands_for] = [row for row in rows if "copies" in row]
    same = {records[at]["id"] for at in (7, 20, 33)}
    assert {stands_for["id"], *stands_for["copies"]} == same
    assert sum(row.get("outlier", False) for row in rows) == 10


def test_reasons_come_from_the_record(tmp_path, records):
    readings = [
        {"text": text, "labels": [], "log_prob": math.log(share), "sq_grad_norm": 1.0}
        for text, share in (("lay blue", 0.4), ("lay blew", 0.22))
    ]
    first = {
        **records[0],
        "pred_text": "lay blue",
        "pctc": 9.0,
        "hypotheses": readings,
        "duration": 30.0,
    }
    silent = {**records[1], "pctc": 8.0, "pred_text": "", "num_frames": 10**400}
    del silent["hypotheses"]
    short = {**records[2], "pctc": 0.01, "num_frames": 50, "duration": 0.1, "pred_text": "no"}
    del short["hypotheses"]
    # Recordings that the gate leaves out do not set the scale for the others.
    others = [
        {**record, "pctc": 99.0, "duration": 99.0} if at % 6 == 5 else record
        for at, record in enumerate(records)
    ]
    path = write_pool(tmp_path, [first, silent, short, *others[3:]])
    data = picks_of(path).data["picks"]
    why = {
        row["id"]: [data["phrases"][phrase] for phrase in row["why"]]
        for row in data["rows"]
        if row["id"] in (first["id"], silent["id"], short["id"])
    }
    assert why[first["id"]][0] == (
        "the model is unsure of its transcript: two readings hold 40% and 22%"
    )
    assert "longer than 98% of the recordings that pass the gate" in why[first["id"]]
    assert "pCTC higher than for 98% of the recordings that pass the gate" in why[first["id"]]
    assert why[silent["id"]][0] == "the model hears nothing in it"
    # exp(-0.01 * 50): the best labeling's probability is all that such a record tells.
    assert "the best reading holds 61%" in why[short["id"]][0]
    assert "shorter than 98% of the recordings that pass the gate" in why[short["id"]]
    assert "less typical than 60% of the trusted recordings" not in why[short["id"]]
    assert "typical of the trusted recordings" in why[short["id"]]
    row = data["rows"][0]
    assert row["readings"][1] == ["0.22", [["", "lay bl"], ["-", "ue"], ["+", "ew"]]]
    assert row["bar"] == [pytest.approx(first["egl_full"], rel=1e-5), 1.0]


def test_what_select_refuses_has_no_list_but_a_page(tmp_path, records):
    path = write_pool(tmp_path, records)
    meta = path.with_name("scores.jsonl.meta.json")
    meta.write_text(json.dumps({"typicality": {"num_trusted": 60, "thresholds": {}}}))
    page = picks_of(path)
    assert page.data.get("picks") is None
    assert "This page does not say what to label: --drop-atypical auto" in page.text


def test_without_the_usual_scores_another_one_ranks(tmp_path):
    path = tmp_path / "my scores.jsonl"
    lines = [{"id": str(at), "duration": 1.0, "entropy": float(at)} for at in range(9)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = picks_of(path)
    assert ids(page)[0] == "8"
    assert page.data["picks"]["command"] == ("egl-fast select 'my scores.jsonl' --strategy entropy")


def test_a_selection_keeps_its_order(tmp_path, records):
    path = write_pool(tmp_path, records)
    out = tmp_path / "picks.jsonl"
    chosen = ["select", path, "--budget", "9", "--strategy", "egl", "--per", "speaker=3"]
    assert in_this_process(*chosen, "--out", out, "-q") == 0
    page = picks_of(out)
    assert ids(page) == [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert page.data["picks"]["start"] == 9
    assert not [phrase for phrase in page.data["picks"]["phrases"] if "of the pool" in phrase]
    assert page.data["picks"]["command"] == ""
    said = "egl-fast select scores.jsonl --budget 9 --strategy egl --per speaker=3 "
    assert said + "--drop-atypical auto" in page.text


def test_a_large_pool_lists_what_fits(tmp_path):
    path = tmp_path / "scores.jsonl"
    with open(path, "w") as file:
        for at in range(MAX_ROWS + 5):
            file.write(f'{{"id":"{at}","duration":1,"pctc":{(at * 7919) % 10_007}}}\n')
    page = picks_of(path)
    assert len(ids(page)) == MAX_ROWS
    assert "it lists the first 10,000 of 10,005" in page.text


def test_the_command_is_told_from_the_metadata(tmp_path, records):
    path = write_pool(tmp_path, records)
    meta = path.with_name("scores.jsonl.meta.json")
    said = {
        **json.loads(meta.read_text()), "model": "/home/jane/base $(x).pt", "k": 20,
        "pool": "/home/jane/pool.jsonl", "beam_width": 200, "method": "lowrank", "tolerance": 0.1,
        "full_samples": 200, "per_hypothesis": True, "mc_dropout": 0, "seed": 0, "params": None,
    }  # fmt: skip
    said["typicality"]["trusted"] = "/home/jane/train.jsonl"
    meta.write_text(json.dumps(said))
    text = picks_of(path).text
    assert (
        "egl-fast score --model 'base $(x).pt' --pool pool.jsonl --k 20 --method lowrank "
        "--tolerance 0.1 --full --per-hypothesis --typicality train.jsonl" in text
    )
    assert "jane" not in text


@pytest.mark.parametrize(
    ("best", "other"),
    [("", ""), ("a b", ""), ("", "a b"), ("a b c", "a x c"), ("aba", "ab"), ("你好吗", "你们好")],
)
def test_marked_differences_hold_both_readings(best, other):
    pieces = marked(best, other)
    assert "".join(text for kind, text in pieces if kind != "+") == best
    assert "".join(text for kind, text in pieces if kind != "-") == other
    assert all(text for _, text in pieces)


def test_latex_prints_any_name():
    assert escaped(r"\input{x} 5% $a_b & ~^#") == (
        r"\textbackslash{}input\{x\} 5\% \$a\_b \& \textasciitilde{}\textasciicircum{}\#"
    )


def test_the_table_for_papers_is_that_of_the_page(page):
    latex = page.html[page.html.index("\\begin{tabular}") : page.html.index("\\end{tabular}")]
    assert latex.count("\\midrule") == 3
    assert " &amp; random &amp; entropy &amp; pCTC &amp; EGL" in latex
    assert "20\\% &amp; " in latex
    assert "\\textbf{" in latex
