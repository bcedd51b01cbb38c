"""``egl-fast report`` as a user runs it: one file, whatever the manifests hold."""

import base64
import contextlib
import hashlib
import html.parser
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from synthetic_run import synthetic_scores, write_run

from egl_fast.cli.main import main
from egl_fast.display import printable

COMMAND = [sys.executable, "-c", "from egl_fast.cli.main import main; main()", "report"]

#: What transcripts, ids and speakers must not be able to do.
HOSTILE = (
    '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"&amp;\u2028'
)


def run(*arguments, status=0):
    """What the command says, in this process: starting one takes longer than a report."""
    said, out = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(out),
    ):
        patch.setattr(sys, "argv", ["egl-fast", "report", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == status, said.getvalue()
    assert out.getvalue() == ""
    return said.getvalue()


def refusal(*arguments, **options):
    lines = run(*arguments, status=2, **options).splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class Page(html.parser.HTMLParser):
    """What a browser would see of a report."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.ids, self.scripts, self.words = [], [], [], []
        self._inside = None
        self.feed(self.html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def records(examples):
    return synthetic_scores(examples / "pool.jsonl")


@pytest.fixture(scope="module")
def report(tmp_path_factory, records, examples):
    """The report of a run whose manifest is hostile."""
    folder = tmp_path_factory.mktemp("run")
    keys = ("text", "pred_text", "id", "kind", "speaker")
    heard = {"text": HOSTILE, "labels": [], "log_prob": -1.0, "sq_grad_norm": 1.0}
    bad = [{**records[0], **dict.fromkeys(keys, HOSTILE), "egl": 1e9, "hypotheses": [heard]}]
    # Beside the run: from far away, a relative path would climb to the root, where any folder to
    # count from is as good as the right one.
    shutil.copytree(examples / "audio", folder / "audio")
    run_dir = write_run(
        folder / HOSTILE.replace("/", "_"), [*bad, *records[1:]],
        seeds=(0, 1), num_test=40, sequential=True, audio_folder=folder,
    )  # fmt: skip
    said = run(run_dir, "--paper", "--audio", "2", "--figures", folder / "figures")
    return folder, run_dir, said


@pytest.fixture(scope="module")
def page(report):
    return Page(report[1] / "report.html")


class TestOneFile:
    def test_it_is_where_it_is_said_to_be(self, report):
        _, run_dir, said = report
        assert f"report: {printable(str(run_dir / 'report.html'))} (" in said
        assert sorted(p.name for p in run_dir.iterdir() if p.name.startswith("report")) == [
            "report.html"
        ]

    def test_it_asks_nothing_of_the_network(self, page):
        for tag, attributes in page.tags:
            for name in ("src", "href", "data", "action", "poster", "srcset"):
                value = attributes.get(name)
                assert value is None or value.startswith(("data:", "#")), (tag, value[:80])
        [style] = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
        assert "@import" not in style
        assert "url(" not in style

    def test_its_policy_admits_its_own_code_by_hash_and_nothing_else(self, page):
        [policy] = [m["content"] for m in page.all("meta") if "http-equiv" in m]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert "unsafe" not in policy
        hashes = [
            "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"
            for code in page.scripts[1:]
        ]
        assert rules["script-src"].split() == hashes
        assert len(hashes) == 2
        assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
        assert not [tag for tag, attributes in page.tags if "style" in attributes]

    def test_a_strict_reader_finds_its_way(self, page):
        assert len(page.ids) == len(set(page.ids))
        inputs = [a for t, a in page.tags if t in ("input", "select", "audio")]
        labelled = {a["for"] for a in page.all("label") if "for" in a}
        for one in inputs:
            named = "aria-label" in one or one.get("id") in labelled
            assert named or one.get("type") in ("radio", "checkbox"), one
        anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
        assert set(anchors) <= set(page.ids)
        assert all("alt" in image for image in page.all("img"))
        assert all(a.get("scope") for a in page.all("th"))


def test_nothing_of_a_manifest_becomes_markup(page):
    assert "window.pwned=1" in page.html, "the hostile text must be on the page at all"
    assert [a for a in page.all("img") if a.get("src") == "x"] == []
    assert len(page.scripts) == 3
    assert page.text.count("<script>window.pwned=1</script>") >= 4
    # In the data it is a string like any other.
    utterances = page.data["ranking"]["utterances"]
    assert [u["t"] for u in utterances if u["id"] == HOSTILE] == [HOSTILE]
    assert "<" not in page.scripts[0]


def test_the_tables_hold_the_numbers(page):
    assert "Character error rate (CER), %" in page.text
    assert page.data["queries"] == ["10%", "20%", "30%", "40%"]
    labels = [look["label"] for look in page.data["looks"]]
    assert labels[:6] == [
        "random", "entropy", "pCTC", "EGL", "EGL normalized", "EGL (sequential)"
    ]  # fmt: skip
    assert "the paper's Table 1 and this run" in page.text
    assert "12.70" in page.text
    points = [p for p in page.data["points"] if labels[p["s"]] == "EGL"]
    assert [p["recordings"] for p in points] == [0.0, 9.375, 20.312, 29.688, 40.625, 100.0]
    assert all(len(p["seeds"][0]) == 2 for p in points)


def test_picks_are_those_of_the_budget(page):
    assert "What was picked at 20" in page.text
    for name in ("random", "EGL normalized", "EGL (sequential)"):
        # 13 of 64 recordings, of the 26 that the picks hold for 40%.
        assert re.search(re.escape(name) + r" 13 [0-9.]+ min", page.text), name


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


def test_the_listening_table_can_be_heard(page, records):
    players = page.all("audio")
    # Two picks of each of six series, those in common once.
    assert 5 <= len(players) <= 12
    assert all(p["src"].startswith("data:audio/mpeg;base64,") for p in players)
    assert all("controls" in p and p["preload"] == "none" for p in players)
    assert len(page.all("img")) == len(players)
    assert "No sound" not in page.text
    assert "Warning:" not in page.text
    assert "1,234" in page.text
    assert "3.08\u00a0×\u00a010⁻⁴³⁵" in page.html, (
        "the probability of a hypothesis below the range of floats"
    )


def test_figures_for_papers(report):
    folder, _, said = report
    for name in ("figure1", "figure2"):
        assert f"{name}.png" in said
        with Image.open(folder / "figures" / f"{name}.png") as image:
            assert image.size[0] > 1000
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in (folder / "figures").iterdir()) == [
        "figure1.pdf", "figure1.png", "figure2.pdf", "figure2.png"
    ]  # fmt: skip


def test_the_same_run_gives_the_same_report(report, tmp_path):
    _, run_dir, _ = report
    run(run_dir, "--paper", "--audio", "2", "--out", tmp_path / "again.html",
        "--figures", tmp_path / "f")  # fmt: skip
    assert (tmp_path / "again.html").read_bytes() == (run_dir / "report.html").read_bytes()
    for name in ("figure1.pdf", "figure2.pdf", "figure1.png"):
        assert (tmp_path / "f" / name).read_bytes() == (report[0] / "figures" / name).read_bytes()


def test_with_defaults_it_is_small(report, tmp_path):
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


def headings(page):
    return re.findall(r"<h2[^>]*>(Figure \d+)\.", page.html)


def test_figures_are_numbered_in_the_order_they_appear(page):
    assert headings(page) == ["Figure 1", "Figure 2"]
    assert "Figure 3" not in page.text


class TestScores:
    @pytest.fixture
    def scores(self, tmp_path, records, examples):
        path = tmp_path / "scores.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        meta = tmp_path / "scores.jsonl.meta.json"
        meta.write_text(json.dumps({"pool": str(examples / "pool.jsonl")}))
        return path

    def test_a_pool_without_an_evaluation(self, scores):
        assert f"report: {scores}.html (" in run("--scores", scores, "--audio", "1")
        page = Page(scores.with_name("scores.jsonl.html"))
        assert page.all("audio")
        assert {"scores", "rankings", "picked", "listen"} <= set(page.ids)
        assert not {"metrics", "labeling"} & set(page.ids)
        assert len(page.data["histograms"]) == 6
        for one in page.data["histograms"]:
            assert sum(row["count"] for row in one["rows"]) == 64
        assert headings(page) == ["Figure 1", "Figure 2"]

    def test_estimates_are_shown_with_their_standard_error(self, scores, records):
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

    def test_how_the_scores_were_made(self, scores):
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
    def test_extreme_scores_make_a_page(self, scores, records, values):
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
    def test_records_of_the_barest_kind(self, scores, keep):
        bare = [
            {"id": str(at), "duration": 1.0, **{k: float(at * 7 % 11) for k in keep}}
            for at in range(10)
        ]
        scores.write_text("".join(json.dumps(record) + "\n" for record in bare))
        run("--scores", scores)
        assert "A pool of 10 recordings" in Page(scores.with_name("scores.jsonl.html")).text

    def test_absolute_paths_do_not_need_the_manifest(self, scores, records, examples):
        meta = scores.with_name("scores.jsonl.meta.json")
        meta.write_text('{"pool": "/dev/stdin"}')
        absolute = [
            {**record, "audio_filepath": str(examples / record["audio_filepath"])}
            for record in records
        ]
        scores.write_text("".join(json.dumps(record) + "\n" for record in absolute))
        assert "warning" not in run("--scores", scores, "--audio", "1")
        assert Page(scores.with_name("scores.jsonl.html")).all("audio")

    def test_figures(self, scores, tmp_path):
        run("--scores", scores, "--no-audio", "--figures", tmp_path / "f")
        assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["figure2.pdf", "figure2.png"]

    def test_missing_audio_is_said_in_its_row(self, scores):
        scores.with_name("scores.jsonl.meta.json").unlink()
        run("--scores", scores, "--audio", "1")
        page = Page(scores.with_name("scores.jsonl.html"))
        assert page.all("audio") == []
        assert "No sound: " in page.text
        assert "no such file" in page.text
        assert "None of the" in page.text

    def test_a_pool_that_is_gone_is_a_warning_one_that_is_named_an_error(self, scores):
        scores.with_name("scores.jsonl.meta.json").write_text('{"pool": "gone.jsonl"}')
        assert "warning: " in run("--scores", scores)
        assert "no such file" in refusal("--scores", scores, "--pool", "gone.jsonl", "--overwrite")

    def test_the_pool_can_be_named(self, scores, examples):
        scores.with_name("scores.jsonl.meta.json").unlink()
        run("--scores", scores, "--audio", "1", "--pool", examples / "pool.jsonl")
        assert Page(scores.with_name("scores.jsonl.html")).all("audio")

    def test_half_a_surrogate_pair_is_no_failure(self, scores, records):
        scores.write_text(
            "".join(json.dumps({**record, "text": "a\ud800b"}) + "\n" for record in records)
        )
        run("--scores", scores, "--audio", "1")
        assert "a\\ud800b" in Page(scores.with_name("scores.jsonl.html")).text

    def test_a_single_record(self, scores, records):
        scores.write_text(json.dumps(records[0]) + "\n")
        run("--scores", scores, "--audio", "1")
        page = Page(scores.with_name("scores.jsonl.html"))
        assert records[0]["id"] in page.text.replace(" ", "")
        assert "A pool of 1 recording," in page.text

    def test_what_is_no_scores_file(self, scores, examples, tmp_path):
        line = refusal("--scores", examples / "pool.jsonl")
        assert "line 1: holds no score; is this a scores file" in line
        assert "no such file" in refusal("--scores", tmp_path / "none.jsonl")


class TestRefusals:
    def test_usage(self, tmp_path):
        assert "either RUN_DIR or --scores FILE" in refusal()
        assert "either RUN_DIR or --scores FILE" in refusal(tmp_path, "--scores", "x")
        assert "--pool does nothing without --scores" in refusal(tmp_path, "--pool", "x")
        assert "--paper goes with RUN_DIR" in refusal("--scores", "x", "--paper")

    def test_a_folder_without_results(self, tmp_path):
        line = refusal(tmp_path)
        assert line.startswith(f"egl-fast: run {tmp_path}: holds no results; `egl-fast simulate ")

    def test_what_is_there_is_not_lost(self, report, tmp_path):
        out = tmp_path / "thesis.html"
        out.write_text("three years of work")
        assert "exists already; give --overwrite" in refusal(report[1], "--out", out)
        assert "is not a report" in refusal(report[1], "--out", out, "--overwrite")
        assert out.read_text() == "three years of work"
        assert "is a folder" in refusal(report[1], "--out", tmp_path)
        assert "does not exist" in refusal(report[1], "--out", tmp_path / "no" / "r.html")

    def test_a_report_and_its_figures_are_replaced_only_on_request(self, report, tmp_path):
        page, figures = tmp_path / "r.html", tmp_path / "f"
        files = (report[1], "--no-audio", "--out", page, "--figures", figures)
        figures.mkdir()
        (figures / "figure2.pdf").write_text("drawn by hand")
        line = refusal(*files)
        assert line == (
            f"egl-fast: output {figures / 'figure2.pdf'}: exists already; give --overwrite to "
            "replace it, or another name"
        )
        run(*files, "--overwrite")
        before = page.read_bytes()
        assert f"output {page}: exists already; give --overwrite" in refusal(*files, "--paper")
        assert page.read_bytes() == before
        run(*files, "--paper", "--overwrite")
        assert b"Table 1" in page.read_bytes()

    @pytest.mark.parametrize(
        ("module", "package"),
        [("jinja2", "jinja2"), ("vl_convert", "vl-convert-python")],
    )
    def test_a_missing_package_names_the_extra(self, report, tmp_path, module, package):
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
    # A process of its own, whose largest size can be asked for. Not getrusage, which also counts
    # the process that it was forked from.
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
    assert report.stat().st_size < 2 * 2**20
    page = Page(report)
    assert page.data["ranking"]["size"] == 1_000_000
    assert sum(page.data["ranking"]["grids"]["egl/entropy"]) == 1_000_000
    assert len(page.data["ranking"]["utterances"]) == 1500


def test_the_shipped_page_can_be_heard():
    results = Path(__file__).resolve().parent.parent / "experiments" / "results"
    page = Page(results / "speechocean.html")
    assert len(page.all("audio")) == 16
    assert "No sound" not in page.text
    assert "Warning:" not in page.text
