"""A report in a real browser without network: it draws, responds, and obeys its policy."""

import json
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from report_pages import HOSTILE, run
from synthetic_run import synthetic_scores, write_run

from egl_fast.evaluation.reporting.scores_file import GROUP_KEYS

CHROMIUM = os.environ.get("EGL_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
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


@pytest.fixture(scope="module")
def files(tmp_path_factory, examples):
    """Paths of reports: of a run, of a pool large enough to be drawn as cells, of hostile texts."""
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
    # As `select` leaves it, with the same texts among what the gate turned away.
    lines = [json.loads(line) for line in hostile.read_text().splitlines()]
    hostile.with_name("hostile.jsonl.atypical.jsonl").write_text(
        "".join(
            json.dumps({**line, "typicality": at / 100 - 1, "group": 1 + at % 2}) + "\n"
            for at, line in enumerate(lines)
        )
    )
    gate = {"option": HOSTILE, "threshold": -0.7, "kept_groups": [3], "num_candidates": 100}
    gate["quantiles"] = [at / 100 - 1 for at in range(101)]
    typicality = {"quantiles": [at / 200 - 0.5 for at in range(101)]}
    hostile.with_name("hostile.jsonl.meta.json").write_text(
        json.dumps({"num_picks": len(lines), "gate": gate, "typicality": typicality})
    )
    run("--scores", hostile, "--audio", "20")
    return {
        "run": run_dir / "report.html",
        "scores": folder / "scores.jsonl.html",
        "hostile": folder / "hostile.jsonl.html",
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


def color_of(page, selector):
    return page.evaluate(
        "(selector) => getComputedStyle(document.querySelector(selector)).backgroundColor", selector
    )


def test_every_chart_is_drawn(visit):
    page = visit()
    # Six series at four budgets and both ends; one marker each.
    labels = page.locator("#curves [aria-label]").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('aria-label'))"
    )
    assert sum("CER" in label and "seeds:" in label for label in labels) == 6 * 6
    assert any("EGL, 20.3% of the recordings" in label for label in labels)
    # Five series against random at four budgets.
    assert (
        page.locator(
            "#reductions [aria-label*='lower than random'][aria-roledescription=point]"
        ).count()
        == 5 * 4
    )
    assert page.locator("#durations [aria-label*='median']").count() >= 7
    assert page.locator("#ranks [aria-label]").count() >= 64
    assert page.locator("#curves svg").bounding_box()["width"] > 900


def test_lines_are_named_at_the_lines(visit):
    page = visit()
    names = page.locator("#curves text").all_text_contents()
    assert {"random", "entropy", "pCTC", "EGL", "EGL normalized", "EGL (sequential)"} <= set(names)
    # A strategy has the same color everywhere.
    fill = page.locator("#curves text", has_text="pCTC").get_attribute("fill")
    place = next(
        at
        for at, name in enumerate(page.locator("#curve-controls .chips label").all_text_contents())
        if name.strip() == "pCTC"
    )
    swatch = page.locator("#curve-controls .chips .swatch").nth(place)
    rgb = swatch.evaluate("(one) => getComputedStyle(one).backgroundColor")
    assert rgb == f"rgb({', '.join(str(int(fill[at : at + 2], 16)) for at in (1, 3, 5))})"


def test_hovering_shows_values(visit):
    page = visit()
    tip = page.locator(".tip")
    assert tip.is_hidden()
    marker = page.locator("#curves [aria-label^='EGL, 20.3%']").first
    marker.scroll_into_view_if_needed()
    marker.hover(force=True)
    tip.wait_for(state="visible")
    assert tip.text_content().startswith("EGL, 20.3% of the recordings\nCER ")
    page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


def test_the_metric_changes_figure_and_tables(visit):
    page = visit()
    assert "Character error rate" in page.locator("#curves").text_content()
    page.get_by_label("WER", exact=True).check(force=True)
    page.wait_for_function("() => document.querySelector('#curves').textContent.includes('Word')")
    page.wait_for_function(DRAWN)
    captions = page.locator("#budgets caption").filter(visible=True).all_text_contents()
    assert captions
    assert all("WER" in caption for caption in captions)
    page.get_by_label("hours of audio").check(force=True)
    page.wait_for_function(
        "() => document.querySelector('#curves').textContent.includes('hours of audio')"
    )
    page.locator("#curve-controls label", has_text="pCTC").click()
    page.wait_for_function(
        "() => ![...document.querySelectorAll('#curves text')].some((t) => t.textContent == 'pCTC')"
    )


def test_brushing_fills_the_table(visit):
    page = visit()
    rows = page.locator("#brushed tbody tr")
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function(DRAWN)
    assert rows.count() == 0
    assert page.locator("#brush-status").text_content() == "Nothing selected."
    # From the upper right corner: the hostile recording, first by both.
    plot = page.locator("#ranks svg")
    plot.scroll_into_view_if_needed()
    box = page.locator("#ranks .role-axis-grid").first.bounding_box()
    right, top = box["x"] + box["width"], box["y"]
    page.mouse.move(right - 3, top + 3)
    page.mouse.down()
    page.mouse.move(right - 60, top + 60, steps=4)
    page.mouse.move(right - 0.3 * box["width"], top + 0.3 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelectorAll('#brushed tbody tr').length > 0")
    assert HOSTILE in rows.locator("th").all_text_contents()
    shown = [
        float(text) for text in page.locator("#brushed tbody td:nth-child(2)").all_text_contents()
    ]
    assert min(shown) >= 0.69
    assert "selected" in page.locator("#brush-status").text_content()
    bounds = [page.locator(f"[name={name}]").input_value() for name in ("x0", "x1", "y0", "y1")]
    assert float(bounds[0]) == pytest.approx(0.7, abs=0.02)
    assert float(bounds[3]) == pytest.approx(1.0, abs=0.02)


def test_bounds_by_keyboard_do_the_same(visit):
    page = visit()
    page.select_option("#rank-x", label="pCTC")
    page.wait_for_function(DRAWN)
    assert "pCTC against EGL" in page.locator("#correlation").text_content()
    for name, value in (("x0", "0.5"), ("x1", "1"), ("y0", "0"), ("y1", "0.5")):
        page.locator(f"[name={name}]").fill(value)
    page.keyboard.press("Tab")
    page.wait_for_function(DRAWN)
    rows = page.locator("#brushed tbody tr")
    for row in range(rows.count()):
        x, y = (float(rows.nth(row).locator("td").nth(at).text_content()) for at in (0, 1))
        assert x >= 0.5
        assert y <= 0.5
    # The drawn brush follows, and is not undone by it.
    page.wait_for_timeout(200)
    assert page.locator("[name=x0]").input_value() == "0.5"


def test_transcripts_stay_text(visit):
    page = visit()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src='x']").count() == 0
    page.select_option("#listen-of", "")
    said = page.locator(".listen dd", has_text="window.pwned").first
    assert said.text_content().strip() == HOSTILE.strip()


def test_hostile_manifests_are_shown_and_do_nothing(visit):
    page = visit("hostile")
    page.on("dialog", lambda dialog: pytest.fail(f"dialog: {dialog.message}"))
    page.select_option("#listen-of", "")
    for name in ("x0", "y0"):
        page.locator(f"[name={name}]").fill("0")
    for name in ("x1", "y1"):
        page.locator(f"[name={name}]").fill("1")
    page.keyboard.press("Tab")
    page.wait_for_function(DRAWN)
    page.locator("#brushed tbody tr a").first.click()
    assert page.evaluate("window.pwned") is None
    # Titles that look like names of properties stay titles.
    assert "rank by entropy" in page.locator("#ranks").text_content()
    ids = page.locator("#brushed tbody th").all_text_contents()
    assert len(ids) == len(HOSTILE_TEXTS)
    assert {HOSTILE, "toString", "x_title", "__proto__", "var(--c0)", "(blank)"} <= set(ids)
    assert "a\\ud800b" in ids
    assert "x\\x00\\x1b[31m\\x07y" in ids
    assert "\\u202eabc\\u2066" in ids
    assert max(map(len, ids)) <= 300
    assert page.evaluate("document.documentElement.scrollWidth") == 1200
    assert page.locator("audio").count() >= 5


def test_axes_have_numbers_for_people(visit):
    for which in ("run", "scores", "hostile"):
        page = visit(which)
        labels = page.locator(".chart .role-axis-label text").all_text_contents()
        assert labels
        assert [label for label in labels if re.search("[0-9]e", label)] == []
    # The hostile page has scores of 2,000 and of 1e-300.
    assert "2,005" in labels
    assert any(
        re.fullmatch("[0-9.]+\u00d710\u207b[\u2070\xb9\xb2\xb3\u2074-\u2079]{3}|10\u207b.*", x)
        for x in labels
    )


def test_the_policy_is_enforced(browser, files):
    with browser.new_context(offline=True) as context:
        page = context.new_page()
        refused = []
        page.on("console", lambda said: refused.append(said.text))
        page.goto(Path(files["run"]).as_uri())
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.pwned = 1";
                document.body.append(script);
                new Image().src = "https://example.invalid/x.png";
            }"""
        )
        page.wait_for_timeout(100)
        assert page.evaluate("window.pwned") is None
        assert len([line for line in refused if "Content Security Policy" in line]) >= 2


def test_recordings_are_played(visit):
    page = visit()
    rows = page.locator(".listen > tbody > tr")
    shown = rows.filter(visible=True)
    assert shown.count() == 2
    assert [shown.nth(at).locator("th.rank").text_content() for at in (0, 1)] == ["1", "2"]
    player = shown.nth(1).locator("audio")
    player.evaluate("(one) => one.play()")
    page.wait_for_function(
        "() => [...document.querySelectorAll('audio')].some((a) => a.currentTime > 0.05)"
    )
    assert player.evaluate("(one) => one.duration") > 0.3
    assert shown.nth(1).locator("img").evaluate("(one) => one.naturalWidth") == 224
    page.select_option("#listen-of", "")
    assert shown.count() == rows.count() > 2


def test_what_the_gate_leaves_out_is_drawn_and_stays_text(visit):
    page = visit("hostile")
    assert page.locator("#typicality svg").bounding_box()["width"] > 900
    labels = page.locator("#typicality [aria-label]").evaluate_all(
        "(all) => all.map((one) => one.getAttribute('aria-label'))"
    )
    assert any("of the pool, from " in label for label in labels)
    assert any("of the trusted recordings" in label for label in labels)
    assert "threshold \u22120.70" in page.locator("#typicality").text_content()
    section = page.locator("#gate")
    assert section.locator(".group").count() == 2
    said = section.locator("dd", has_text="window.pwned").first
    assert said.text_content().strip() == HOSTILE.strip()
    assert "--keep-group 3 --keep-group 1" in page.locator("#group-1").text_content()
    assert page.evaluate("window.pwned") is None


def test_a_group_is_heard_at_one_press_of_a_key(visit):
    page = visit("hostile")
    group = page.locator("#group-2")
    button = group.get_by_role("button")
    players = group.locator("audio")
    assert button.text_content() == f"Play all {players.count()}"
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#group-2 audio').currentTime > 0.05")
    assert button.text_content() == f"Stop (1 of {players.count()})"
    # One after the other.
    players.first.evaluate("(one) => { one.currentTime = one.duration - 0.05; }")
    page.wait_for_function(
        "() => document.querySelectorAll('#group-2 audio')[1].currentTime > 0.05"
    )
    assert button.text_content() == f"Stop (2 of {players.count()})"
    page.keyboard.press("Enter")
    assert button.text_content() == f"Play all {players.count()}"
    assert players.nth(1).evaluate("(one) => one.paused")
    # Another player takes over.
    page.keyboard.press("Enter")
    page.wait_for_function("() => !document.querySelector('#group-2 audio').paused")
    page.locator("#listen audio").first.evaluate("(one) => one.play()")
    page.wait_for_function("() => document.querySelector('#group-2 audio').paused")
    page.wait_for_function(
        "() => document.querySelector('#group-2 button').textContent.startsWith('Play all')"
    )


def test_the_gate_fits_a_phone_and_the_dark(visit):
    page = visit("hostile", width=390, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#typicality svg").bounding_box()["width"] <= 390
    player = page.locator("#group-2 audio").first.bounding_box()
    assert player["x"] >= 0
    assert player["x"] + player["width"] <= 390
    light = visit("hostile", color_scheme="light")
    fills = [
        one.locator("#typicality .mark-rect path").first.get_attribute("fill")
        for one in (page, light)
    ]
    assert fills[0] != fills[1]


def test_a_phone_shows_everything_without_scrolling_sideways(visit):
    page = visit(width=360, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#curves svg").bounding_box()["width"] <= 360
    # Its lines are named by the boxes above: no label covers them.
    assert "EGL normalized" not in page.locator("#curves text").all_text_contents()
    page.locator(".listen details summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_dark_mode_has_colors_of_its_own(visit):
    light, dark = visit(color_scheme="light"), visit(color_scheme="dark")
    assert color_of(light, "body") == "rgb(255, 255, 255)"
    assert color_of(dark, "body") == "rgb(18, 22, 27)"
    names = ".mark-text text"
    fills = [page.locator(f"#curves {names}").first.get_attribute("fill") for page in (light, dark)]
    assert fills[0] != fills[1]
    # An open page follows when the system switches to dark mode.
    light.emulate_media(color_scheme="dark")
    light.wait_for_function(
        """(fill) => [...document.querySelectorAll('#curves .mark-text text')]
            .some((text) => text.getAttribute('fill') == fill)""",
        arg=fills[1],
    )


def test_motion_is_reduced_on_request(visit):
    script = "getComputedStyle(document.documentElement).scrollBehavior"
    assert visit(reduced_motion="no-preference").evaluate(script) == "smooth"
    assert visit().evaluate(script) == "auto"


def test_without_scripts_the_tables_are_there(visit, browser, files):
    with browser.new_context(offline=True, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(Path(files["run"]).as_uri())
        assert page.locator("#metrics td").count() >= 3 * 4 * 6
        assert page.locator(".listen > tbody > tr").filter(visible=True).count() > 2


def test_a_large_pool_is_drawn_as_cells(visit):
    page = visit("scores")
    assert page.locator("#ranks .mark-rect [aria-label], #ranks .mark-rect path").count() > 100
    assert "sample of 1,500 of 2,880 recordings" in page.locator("#rankings").text_content()
    assert "sampled recording" in page.locator("#brush-status").text_content()
    assert page.locator("[data-histogram] svg").count() == 6
    page.select_option("#rank-x", label="EGL")
    page.wait_for_function(DRAWN)


def test_headings_nest_and_keyboards_get_everywhere(visit):
    page = visit()
    levels = [
        int(level[1])
        for level in page.locator("h1, h2, h3, h4").evaluate_all(
            "(all) => all.map((h) => h.tagName)"
        )
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert {"metric", "x", "range", "series", "seeds"} <= reached
