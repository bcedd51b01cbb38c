"""Reports, and a real browser without network that opens them: fixtures of test_report_browser*.

PYTEST_DONT_REWRITE: the tests import it before pytest takes it as their plugin.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from report_pages import HOSTILE, run
from synthetic_run import synthetic_scores, write_run

from egl_fast.evaluation.reporting.scores_file import GROUP_KEYS
from egl_fast.selection.gate import histogram

CHROMIUM = os.environ.get("EGL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found: apt-get install chromium, or set EGL_CHROMIUM"
)

#: Possible ids, texts, paths, groups, and keys of a manifest.
HOSTILE_TEXTS = [
    HOSTILE, "<img src=x onerror=window.pwned=1>", '"onmouseover="window.pwned=1', "<!--<script>",
    "${window.pwned=1}`${window.pwned=1}`", "{{7*7}}{% raw %}", "javascript:alert(1)",
    "https://example.invalid/a.wav", "x\0\x1b[31m\x07y", "\u202eabc\u2066", "a\ud800b",
    "x" * 10_000,
    "<b>" * 4000, "\u0645\u0631\u062d\u0628\u0627", "\U0001f468\u200d\U0001f469",
    "a" + "\u0301" * 400,
    "=cmd|'/c calc'!A1", "constructor", "__proto__", "toString", "x_title", "var(--c0)", "", " ",
]  # fmt: skip

#: Every chart is drawn, with all its redrawings.
DRAWN = """() => window.reportCharts
    && Object.values(window.reportCharts).every((chart) => chart.result)"""


@pytest.fixture(scope="session")
def files(tmp_path_factory, examples):
    """Paths of reports: a run, a pool drawn as cells, and hostile texts as a pool and as picks."""
    folder = tmp_path_factory.mktemp("pages")
    records = synthetic_scores(examples / "pool.jsonl")
    records[0] = {**records[0], "text": HOSTILE, "pred_text": HOSTILE, "id": HOSTILE}
    records[0] |= {"entropy": 9.0, "egl": 1e9}
    run_dir = write_run(
        folder / "run", records, seeds=(0, 1), num_test=40, audio_folder=examples, sequential=True
    )
    run(run_dir, "--paper", "--audio", "2")
    many = [
        {**record, "id": f"{record['id']}-{copy}", "egl": record["egl"] * (1 + 0.37 * copy % 1)}
        for copy in range(45)
        for record in records
    ]
    for record in many:
        del record["hypotheses"]
    scores = folder / "scores.jsonl"
    scores.write_text("".join(json.dumps(record) + "\n" for record in many))
    run("--scores", scores, "--no-audio")
    hostile = folder / "hostile.jsonl"
    hostile.write_text(
        "".join(
            json.dumps(
                {
                    **record, **dict.fromkeys(("id", "text", "pred_text", *GROUP_KEYS, text), text),
                    "egl": 2000.0 + at, "entropy": 1e-300 * at,
                    "audio_filepath": str(examples / record["audio_filepath"]) if at % 2 else text,
                }
            ) + "\n"
            for at, (text, record) in enumerate(
                zip(HOSTILE_TEXTS, synthetic_scores(examples / "pool.jsonl"), strict=False)
            )
        )
    )  # fmt: skip
    run("--scores", hostile, "--audio", "20")
    # As `select` leaves it, with the same texts among what the gate turned away.
    lines = [json.loads(line) for line in hostile.read_text().splitlines()]
    picks = folder / "picks.jsonl"
    picks.write_text(hostile.read_text())
    picks.with_name("picks.jsonl.atypical.jsonl").write_text(
        "".join(
            json.dumps({**line, "typicality": at / 100 - 1, "group": 1 + at % 2}) + "\n"
            for at, line in enumerate(lines)
        )
    )
    gate = {"option": HOSTILE, "threshold": -0.7, "kept_groups": [3], "num_candidates": 100}
    values = [at / 100 - 1 for at in range(101)]
    gate |= {"quantiles": values, "histogram": histogram(values, -0.7)}
    typicality = {"quantiles": [at / 200 - 0.5 for at in range(101)]}
    told = {"strategy": "egl_full", "budget": HOSTILE, "per": [[HOSTILE, 1]], "scores": HOSTILE}
    told |= {"num_picks": len(lines), "gate": gate, "typicality": typicality}
    picks.with_name("picks.jsonl.meta.json").write_text(json.dumps(told))
    run("--scores", picks, "--audio", "20")
    return {
        "run": run_dir / "report.html",
        "scores": folder / "scores.jsonl.html",
        "hostile": folder / "hostile.jsonl.html",
        "picks": folder / "picks.jsonl.html",
    }


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        flags = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update")  # fmt: skip
        with driver.chromium.launch(executable_path=CHROMIUM, args=list(flags)) as launched:
            yield launched


@pytest.fixture
def visit(browser, files):
    """Opens a report; at the end, checks that nothing went wrong or used the network."""
    contexts, wrong = [], []

    def open_page(which="run", *, width=1200, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            offline=True,
            # A page that is still scrolling is hard to hit.
            **{"reduced_motion": "reduce", **options},
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: wrong.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:"))
                or wrong.append(f"request: {request.url}")
            ),
        )
        page.goto(Path(files[which]).as_uri())
        page.wait_for_function(DRAWN)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
