"""A page as one HTML file: no network, no code but its own, and nothing of a manifest as markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egl_fast.evaluation.reporting import charts, provenance
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.pool_sections import POOL
from egl_fast.evaluation.reporting.wording import shown_text

if TYPE_CHECKING:
    import markupsafe

_FOLDER = Path(__file__).parent / "page"
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_PATH_PARTS = re.compile(r"(?<=[/\\_=@,;])(?=[^/\\_=@,;])")
_BEFORE_UNIT = re.compile(r"(?<=[0-9]) (?=(?:s|h|min|kHz|×)(?![A-Za-z]))")

#: Anchor, the section's name in the list of sections, and whether it is a numbered figure.
_SECTIONS = (
    ("findings", "Findings", False),
    ("metrics", "Metrics", False),
    ("labeling", "Figure", True),
    ("budgets", "Budgets", False),
    ("paper", "Paper", False),
    ("scores", "Figure", True),
    ("rankings", "Figure", True),
    ("picked", "Picks", False),
    ("listen", "Listen", False),
    ("how", "How", False),
)


def render(page: Page, *, name: str) -> bytes:
    """The page, UTF-8.

    Args:
        page: what to show.
        name: what it was made from, as the user calls it.

    Returns:
        One self-contained file. Its content security policy admits the scripts and styles it
        carries, by their hashes, sound and pictures it carries, and nothing else.
    """
    import jinja2

    # A template of ours that misspells a name must fail, not show nothing.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["units"] = _with_units
    environment.filters["breakable"] = _breakable
    style = _colors(page) + (_FOLDER / "report.css").read_text(encoding="utf-8")
    library = _in_script(_chart_library())
    script = _in_script((_FOLDER / "report.js").read_text(encoding="utf-8"))
    figures: dict[str, str] = {}
    sections = []
    for anchor, heading, is_figure in _SECTIONS:
        if _has(page, anchor):
            if is_figure:
                figures[anchor] = heading = f"{heading} {len(figures) + 1}"
            sections.append((anchor, heading))
    text = environment.get_template("report.html").render(
        page=page,
        name=shown_text(name),
        version=version("egl-fast"),
        sections=sections,
        figures=figures,
        made=provenance.in_a_line(page.made),
        series_places=sorted({point["s"] for point in page.data.get("points", [])}),
        style=style,
        script=script,
        library=library,
        data=_json(_data(page)),
        policy=_policy(scripts=[library, script], style=style),
    )
    # Half of a surrogate pair, which a strategy's or a file's name may hold, has no UTF-8.
    return text.encode("utf-8", "replace")


def _has(page: Page, anchor: str) -> bool:
    return {
        "findings": bool(page.findings),
        "metrics": bool(page.metric_tables),
        "labeling": bool(page.metric_tables),
        "budgets": bool(page.efficiency_tables),
        "paper": bool(page.paper_tables),
        "scores": bool(page.data.get("histograms")),
        "rankings": bool(page.data.get("ranking")),
        "picked": bool(page.data.get("durations")),
        "listen": bool(page.listen),
        "how": True,
    }[anchor]


def _data(page: Page) -> dict[str, Any]:
    sampled = bool(page.data.get("ranking", {}).get("sampled"))
    first = next((place for place, label in page.listen_series if label == "EGL"), None)
    if first is None and page.listen_series:
        first = page.listen_series[0][0]
    return {
        "reductions": [],
        **page.data,
        "looks": [{"label": look.label} for look in page.looks],
        "listenFirst": first,
        "specs": charts.all_specs(
            page.looks,
            sampled=sampled,
            pool=POOL,
            histograms={one["place"]: one["log"] for one in page.data.get("histograms", [])},
        ),
    }


def _with_units(text: str) -> str:
    """A number is not parted from its unit at the end of a line."""
    return _BEFORE_UNIT.sub(_NO_BREAK_SPACE, text)


def _breakable(text: str) -> markupsafe.Markup:
    """A path may be broken behind its slashes and the like, rather than within a name."""
    import markupsafe

    return markupsafe.Markup("<wbr>").join(_PATH_PARTS.split(text))


def _json(value: object) -> str:
    """JSON that no HTML parser takes for markup, inside a script element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _in_script(code: str) -> str:
    """Code that does not end its element early; "<\\/" is "</" within a JavaScript string."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _colors(page: Page) -> str:
    """Every series' color as a property of the page, light and dark, and a class that uses it."""
    light = "".join(f"--c{place}:{look.light};" for place, look in enumerate(page.looks))
    dark = "".join(f"--c{place}:{look.dark};" for place, look in enumerate(page.looks))
    classes = "".join(f".k{place}{{--c:var(--c{place})}}" for place in range(len(page.looks)))
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}{classes}\n"


@functools.cache
def _chart_library() -> str:
    """Vega-Embed with Vega-Lite and Vega, as one script, out of the vl-convert package."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _policy(*, scripts: list[str], style: str) -> str:
    """The content security policy: "none" but what stands in the page itself."""

    def digest(content: str) -> str:
        made = hashlib.sha256(content.encode("utf-8")).digest()
        return f"'sha256-{base64.b64encode(made).decode()}'"

    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(digest, scripts))}",
            f"style-src {digest(style)}",
            "img-src data:",
            "media-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
