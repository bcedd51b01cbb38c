"""What axe-core, which checks pages for people who cannot see or point, says about reports."""

from importlib.resources import files as resources

import pytest
from report_browser import needs_chromium

pytest_plugins = ["report_browser"]
pytestmark = needs_chromium

AXE = resources("axe_playwright_python").joinpath("axe.min.js")


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [
        ("run", 1280, "dark"),
        ("scores", 390, "light"),
        ("hostile", 390, "dark"),
        ("picks", 390, "light"),
    ],
)
def test_axe_finds_no_serious_fault(visit, which, width, scheme):
    page = visit(which, width=width, color_scheme=scheme)
    page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    assert [
        (fault["id"], fault["nodes"][0]["html"][:200])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ] == []
