"""A report for every reader: on a phone, in the dark, by keyboard, without motion or scripts."""

from itertools import pairwise
from pathlib import Path

from report_browser import needs_chromium

pytest_plugins = ["report_browser"]
pytestmark = needs_chromium


def color_of(page, selector):
    return page.evaluate(
        "(selector) => getComputedStyle(document.querySelector(selector)).backgroundColor", selector
    )


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
