"""``egl-fast report RUN_DIR`` as a user runs it: what it writes, and what it refuses."""

import os
import re
import shutil
import subprocess

import polars as pl
import pytest
from PIL import Image
from report_pages import COMMAND, Page, refusal, run


def test_an_incomplete_run_says_so(report, page, tmp_path):
    assert "not complete" not in page.text
    part = tmp_path / "part"
    part.mkdir()
    for name in ("results.csv", "test_utterances.parquet"):
        (part / name).write_bytes((report[1] / name).read_bytes())
    lines = (part / "results.csv").read_text().splitlines()
    kept = [
        line
        for line in lines
        if not line.startswith(("egl,single,1,1,40%", "pctc,single,1,0,10%", "pctc,single,1,1,10%"))
    ]
    assert len(kept) == len(lines) - 3
    (part / "results.csv").write_text("\n".join(kept) + "\n")
    run(part)
    text = Page(part / "report.html").text
    assert (
        "This run is not complete: 1 of its points lack a seed; there are no results for pCTC at 10"
        in (text)
    )


def test_figures_for_papers_are_pdf_and_png(report):
    folder, _, said = report
    for name in ("figure1", "figure1_hours", "figure2"):
        assert f"{name}.png" in said
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert image.size[0] > 1000
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in (folder / "figures").iterdir()) == [
        "figure1.pdf", "figure1.png", "figure1_hours.pdf", "figure1_hours.png", "figure2.pdf",
        "figure2.png",
    ]  # fmt: skip


def test_the_same_run_gives_the_same_report(report, tmp_path):
    _, run_dir, _ = report
    run(run_dir, "--paper", "--audio", "2", "--out", tmp_path / "again.html",
        "--figures", tmp_path / "f")  # fmt: skip
    assert (tmp_path / "again.html").read_bytes() == (run_dir / "report.html").read_bytes()
    for name in ("figure1.pdf", "figure2.pdf", "figure1.png"):
        assert (tmp_path / "f" / name).read_bytes() == (report[0] / "figures" / name).read_bytes()


def test_a_report_with_defaults_is_small(report, tmp_path):
    run(report[1], "--out", tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size < 5 * 2**20
    run(report[1], "--no-audio", "--out", tmp_path / "r.html", "--overwrite")
    page = Page(tmp_path / "r.html")
    assert page.all("audio") == []
    assert "listen" not in page.ids


def test_a_run_without_scores_is_reported_on_all_the_same(report, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("results.csv", "test_utterances.parquet"):
        (bare / name).write_bytes((report[1] / name).read_bytes())
    run(bare)
    page = Page(bare / "report.html")
    assert "holds no scores of the pool" in page.text
    assert "labeling" in page.ids
    assert "rankings" not in page.ids


def test_a_run_whose_recordings_are_gone_says_so_at_its_top(report, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(report[1], moved)
    said = run(moved, "--audio", "1", "--overwrite")
    page = Page(moved / "report.html")
    assert page.all("audio") == []
    above = page.text[: page.text.index("Findings")]
    assert re.search(r"Warning: None of the \d+ top picks can be played. The first: audio", above)
    assert "warning: None of the" in said


def test_scores_that_an_earlier_version_wrote_make_the_same_page(report, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(report[1], folder)
    run(folder, "--audio", "1", "--out", tmp_path / "new.html")
    for path in (folder / "scores").glob("seed-*.parquet"):
        pl.read_parquet(path).write_ndjson(path.with_suffix(".jsonl"))
        path.unlink()
    run(folder, "--audio", "1", "--out", tmp_path / "old.html")
    assert (tmp_path / "new.html").read_bytes() == (tmp_path / "old.html").read_bytes()


def test_seeds_that_scored_different_pools_are_refused(report, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(report[1], other)
    (other / "scores" / "seed-1.parquet").write_text('{"id": "zz", "duration": 1, "entropy": 1}\n')
    assert "list different recordings" in refusal(other, "--overwrite")


def test_options_that_do_not_go_together_are_refused(tmp_path):
    assert "either RUN_DIR or --scores FILE" in refusal()
    assert "either RUN_DIR or --scores FILE" in refusal(tmp_path, "--scores", "x")
    assert "--pool does nothing without --scores" in refusal(tmp_path, "--pool", "x")
    assert "--paper goes with RUN_DIR" in refusal("--scores", "x", "--paper")


def test_a_folder_without_results_is_refused(tmp_path):
    line = refusal(tmp_path)
    assert line.startswith(f"egl-fast: run {tmp_path}: holds no results; `egl-fast simulate ")


def test_only_reports_are_overwritten(report, tmp_path):
    out = tmp_path / "thesis.html"
    out.write_text("three years of work")
    assert "already exists; give --overwrite" in refusal(report[1], "--out", out)
    assert "is not a report" in refusal(report[1], "--out", out, "--overwrite")
    assert out.read_text() == "three years of work"
    assert "is a folder" in refusal(report[1], "--out", tmp_path)
    assert "does not exist" in refusal(report[1], "--out", tmp_path / "no" / "r.html")


def test_a_report_and_its_figures_are_replaced_only_on_request(report, tmp_path):
    page, figures = tmp_path / "r.html", tmp_path / "f"
    files = (report[1], "--no-audio", "--out", page, "--figures", figures)
    figures.mkdir()
    (figures / "figure2.pdf").write_text("drawn by hand")
    line = refusal(*files)
    assert line == (
        f"egl-fast: output {figures / 'figure2.pdf'}: already exists; give --overwrite to "
        "replace it, or another name"
    )
    run(*files, "--overwrite")
    before = page.read_bytes()
    assert f"output {page}: already exists; give --overwrite" in refusal(*files, "--paper")
    assert page.read_bytes() == before
    run(*files, "--paper", "--overwrite")
    assert b"Table 1" in page.read_bytes()


@pytest.mark.parametrize(
    ("module", "package"),
    [("jinja2", "jinja2"), ("vl_convert", "vl-convert-python")],
)
def test_a_missing_package_names_the_extra(report, tmp_path, module, package):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n")
    done = subprocess.run(
        [*COMMAND, str(report[1])],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(hidden)},
        timeout=60,
    )
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert line == f"egl-fast: a report needs {package}: pip install 'egl-fast[report]'"


def test_help_names_every_option():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, timeout=60).stdout.decode()
    for option in ("--scores", "--pool", "--out", "--figures", "--paper", "--audio", "--no-audio"):
        assert option in text
