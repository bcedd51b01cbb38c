"""``egl-fast report --scores``: a page of a pool's scores, without an evaluation."""

import json
import os
import re
import subprocess
import sys

import pytest
from report_pages import Page, headings, refusal, run


@pytest.fixture
def scores(tmp_path, records, examples):
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    meta = tmp_path / "scores.jsonl.meta.json"
    meta.write_text(json.dumps({"pool": str(examples / "pool.jsonl")}))
    return path


def test_a_pool_without_an_evaluation(scores):
    assert f"report: {scores}.html (" in run("--scores", scores, "--audio", "1")
    page = Page(scores.with_name("scores.jsonl.html"))
    assert page.all("audio")
    assert {"scores", "rankings", "picked", "listen"} <= set(page.ids)
    assert not {"metrics", "labeling"} & set(page.ids)
    assert len(page.data["histograms"]) == 6
    for one in page.data["histograms"]:
        assert sum(row["count"] for row in one["rows"]) == 64
    assert headings(page) == ["Figure 1", "Figure 2"]


def test_estimates_are_shown_with_their_standard_error(scores, records):
    # One recording under many ids: their order is the noise of the estimate.
    noisy = [{**r, "egl": 500.0 + at, "egl_stderr": 40.0} for at, r in enumerate(records)]
    scores.write_text("".join(json.dumps(record) + "\n" for record in noisy))
    run("--scores", scores, "--audio", "1")
    text = Page(scores.with_name("scores.jsonl.html")).text
    assert "(563 ± 40)" in text
    assert "EGL 7.5%" in text
    assert "differ by less than about three standard errors" in text
    scores.write_text("".join(json.dumps(record) + "\n" for record in records))
    run("--scores", scores, "--audio", "1", "--overwrite")
    assert "EGL full 0.2%" in Page(scores.with_name("scores.jsonl.html")).text


def test_how_the_scores_were_made(scores):
    meta = scores.with_name("scores.jsonl.meta.json")
    said = {**json.loads(meta.read_text()), "k": 20, "method": "lowrank", "tolerance": 0.1}
    meta.write_text(json.dumps(said))
    run("--scores", scores, "--no-audio")
    text = Page(scores.with_name("scores.jsonl.html")).text
    assert "Scores: pool pool.jsonl, K = 20, method lowrank (tolerance 0.1)." in text
    meta.write_text(json.dumps({**said, "num_scored": 7}))
    assert "belongs to other scores" in run("--scores", scores, "--no-audio", "--overwrite")
    text = Page(scores.with_name("scores.jsonl.html")).text
    assert "belongs to other scores" in text[: text.index("Findings")]
    assert "lowrank" not in text


@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0], [1e-300, 5e-324], [1e300], [1e300, 1e-300, 1.0], [1e300, -1e300],
        [1e16, 1e16 + 2], [3.5],
    ],
)  # fmt: skip
def test_extreme_scores_make_a_page(scores, records, values):
    extreme = [
        {**record, **dict.fromkeys(("egl", "entropy"), values[at % len(values)])}
        for at, record in enumerate(records)
    ]
    scores.write_text("".join(json.dumps(record) + "\n" for record in extreme))
    run("--scores", scores, "--no-audio")
    page = Page(scores.with_name("scores.jsonl.html"))
    assert not re.search(r"\bnan\b|\binf\b|[0-9]e[+-]?[0-9]", page.text, re.IGNORECASE)
    for one in page.data["histograms"]:
        assert sum(row["count"] for row in one["rows"]) == 64
        assert all(row["low"] < row["high"] for row in one["rows"])


@pytest.mark.parametrize("keep", [("egl",), ("egl", "entropy")])
def test_records_without_optional_fields_make_a_page(scores, keep):
    bare = [
        {"id": str(at), "duration": 1.0, **{k: float(at * 7 % 11) for k in keep}}
        for at in range(10)
    ]
    scores.write_text("".join(json.dumps(record) + "\n" for record in bare))
    run("--scores", scores)
    assert "A pool of 10 recordings" in Page(scores.with_name("scores.jsonl.html")).text


def test_absolute_paths_do_not_need_the_manifest(scores, records, examples):
    meta = scores.with_name("scores.jsonl.meta.json")
    meta.write_text('{"pool": "/dev/stdin"}')
    absolute = [
        {**record, "audio_filepath": str(examples / record["audio_filepath"])} for record in records
    ]
    scores.write_text("".join(json.dumps(record) + "\n" for record in absolute))
    assert "warning" not in run("--scores", scores, "--audio", "1")
    assert Page(scores.with_name("scores.jsonl.html")).all("audio")


def test_figures_for_papers_are_those_of_a_pool(scores, tmp_path):
    run("--scores", scores, "--no-audio", "--figures", tmp_path / "f")
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["figure2.pdf", "figure2.png"]


def test_missing_audio_is_reported_in_its_row(scores):
    scores.with_name("scores.jsonl.meta.json").unlink()
    run("--scores", scores, "--audio", "1")
    page = Page(scores.with_name("scores.jsonl.html"))
    assert page.all("audio") == []
    assert "No sound: " in page.text
    assert "no such file" in page.text
    assert "None of the" in page.text


def test_a_pool_that_is_gone_is_a_warning_one_that_is_named_an_error(scores):
    scores.with_name("scores.jsonl.meta.json").write_text('{"pool": "gone.jsonl"}')
    assert "warning: " in run("--scores", scores)
    assert "no such file" in refusal("--scores", scores, "--pool", "gone.jsonl", "--overwrite")


def test_the_pool_can_be_named(scores, examples):
    scores.with_name("scores.jsonl.meta.json").unlink()
    run("--scores", scores, "--audio", "1", "--pool", examples / "pool.jsonl")
    assert Page(scores.with_name("scores.jsonl.html")).all("audio")


def test_half_a_surrogate_pair_is_no_failure(scores, records):
    scores.write_text(
        "".join(json.dumps({**record, "text": "a\ud800b"}) + "\n" for record in records)
    )
    run("--scores", scores, "--audio", "1")
    assert "a\\ud800b" in Page(scores.with_name("scores.jsonl.html")).text


def test_a_single_record_makes_a_page(scores, records):
    scores.write_text(json.dumps(records[0]) + "\n")
    run("--scores", scores, "--audio", "1")
    page = Page(scores.with_name("scores.jsonl.html"))
    assert records[0]["id"] in page.text.replace(" ", "")
    assert "A pool of 1 recording," in page.text


def test_a_file_without_scores_is_refused_by_report(scores, examples, tmp_path):
    line = refusal("--scores", examples / "pool.jsonl")
    assert "line 1: holds no score; give what `egl-fast score` wrote" in line
    assert "no such file" in refusal("--scores", tmp_path / "none.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_million_records_stay_small(tmp_path):
    path = tmp_path / "scores.jsonl"
    numbers = (f"{(k * 7919) % 1_000_003},{(k * 104_729) % 1_000_003}" for k in range(1_000_000))
    with open(path, "w", encoding="utf-8") as file:
        for at, pair in enumerate(numbers):
            egl, entropy = pair.split(",")
            file.write(
                f'{{"id":"corpus/{at}.flac","audio_filepath":"{at}.flac","duration":2.5,'
                f'"text":"said {at}","speaker":"s{at % 5000}","pred_text":"heard {at}",'
                f'"egl":{egl},"entropy":{entropy}}}\n'
            )
    # A separate process, whose peak size can be read; getrusage would also count the process
    # that it was forked from.
    code = (
        "import re, pathlib\n"
        "from egl_fast.cli.main import main\n"
        "try: main()\n"
        "finally:\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", "--scores", str(path)],
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < 500 * 2**10  # kB; the numbers kept are about 110 MB
    report = tmp_path / "scores.jsonl.html"
    # 1.2 MiB, and the 10,000 recordings to label: 100 bytes each, and about 70 to save.
    assert report.stat().st_size < 3 * 2**20
    page = Page(report)
    assert page.data["ranking"]["size"] == 1_000_000
    assert sum(page.data["ranking"]["grids"]["egl/entropy"]) == 1_000_000
    assert len(page.data["ranking"]["utterances"]) == 1500
