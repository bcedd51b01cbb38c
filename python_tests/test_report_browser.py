"""A report in a real browser: it draws, responds, and obeys its policy."""

import re
from pathlib import Path

import pytest
from report_browser import DRAWN, HOSTILE_TEXTS, needs_chromium
from report_pages import HOSTILE

pytest_plugins = ["report_browser"]
pytestmark = needs_chromium


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


def test_a_large_pool_is_drawn_as_cells(visit):
    page = visit("scores")
    assert page.locator("#ranks .mark-rect [aria-label], #ranks .mark-rect path").count() > 100
    assert "sample of 1,500 of 2,880 recordings" in page.locator("#rankings").text_content()
    assert "sampled recording" in page.locator("#brush-status").text_content()
    assert page.locator("[data-histogram] svg").count() == 6
    page.select_option("#rank-x", label="EGL")
    page.wait_for_function(DRAWN)
