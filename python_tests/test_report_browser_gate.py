"""What the gate left out, in a real browser: drawn, heard, and taken back."""

from report_browser import needs_chromium
from report_pages import HOSTILE

pytest_plugins = ["report_browser"]
pytestmark = needs_chromium


def test_what_the_gate_leaves_out_is_drawn_and_stays_text(visit):
    page = visit("picks")
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
    page = visit("picks")
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
    page = visit("picks", width=390, has_touch=True, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("#typicality svg").bounding_box()["width"] <= 390
    player = page.locator("#group-2 audio").first.bounding_box()
    assert player["x"] >= 0
    assert player["x"] + player["width"] <= 390
    light = visit("picks", color_scheme="light")
    fills = [
        one.locator("#typicality .mark-rect path").first.get_attribute("fill")
        for one in (page, light)
    ]
    assert fills[0] != fills[1]


def test_picks_are_trimmed_and_say_what_they_are(visit):
    page = visit("picks", width=390, color_scheme="dark")
    page.on("dialog", lambda dialog: page.evaluate("window.pwned = 1"))
    slider = page.get_by_label("Keep the first")
    assert page.locator("#budget-status").text_content().startswith("24 of 24 recordings")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    rows = page.locator("#budget-list > tbody > tr")
    assert rows.count() == 2
    assert page.locator("#budget-command").count() == page.locator("#listen-of").count() == 0
    # Nothing to choose from: every row of the listening table is there.
    assert page.locator("#listen .listen > tbody > tr").filter(visible=True).count() == 20
    page.locator("#budget-list a[href^='#pick-']").first.click()
    # With its error bar, a score is said once.
    score = rows.first.locator(".scored").text_content()
    assert score.count("EGL full") == score.count("\xb1") == 1
    assert "those with the highest EGL full" in page.locator(".lead").text_content()
    assert HOSTILE[:20] in page.locator(".lead").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("window.pwned") is None
