"""A page as one HTML file: no network, no code but its own, and nothing of a manifest as markup."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from egl_fast.evaluation.reporting import provenance
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.wording import shown_text

if TYPE_CHECKING:
    import markupsafe

_FOLDER = Path(__file__).parent / "page"
_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
_PATH_PARTS = re.compile(r"(?<=[/\\_=@,;])(?=[^/\\_=@,;])")
_BEFORE_UNIT = re.compile(r"(?<=[0-9]) (?=(?:s|h|min|kHz|×)(?![A-Za-z]))")


def render(page: Page, *, name: str) -> bytes:
    """The page as UTF-8.

    Args:
        page: what to show.
        name: what it was made from, as the user calls it.

    Returns:
        One self-contained file. Its content security policy admits the scripts and styles it
        carries, by their hashes, and the sounds and pictures it carries, and nothing else.
    """
    import jinja2

    # StrictUndefined: a misspelled name in our template must fail, not show nothing.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["units"] = _with_units
    environment.filters["breakable"] = _breakable
    environment.filters["by_word"] = _by_word
    style = _colors(page) + _part("report.css")
    library = _in_script(_chart_library())
    script = _in_script(f'"use strict";\n(() => {{\n{"".join(map(_part, _scripts(page)))}}})();')
    looks = [
        {"label": look.label, "shape": look.shape, "dashed": look.dashed} for look in page.looks
    ]
    text = environment.get_template("report.html").render(
        page=page,
        name=shown_text(name),
        version=version("egl-fast"),
        sections=_sections(page),
        made=provenance.in_a_line(page.made),
        command=provenance.command_in(page.made),
        series_places=sorted({point["s"] for point in page.data.get("points", [])}),
        style=style,
        script=script,
        library=library,
        data=_json({"reductions": [], **page.data, "looks": looks}),
        policy=_policy(scripts=[library, script], style=style),
    )
    # A strategy's or a file's name may hold half of a surrogate pair, which has no UTF-8.
    return text.encode("utf-8", "replace")


def _sections(page: Page) -> dict[str, str]:
    """Anchor -> heading of the sections that the page has; figures are numbered."""
    numbers = count(1)
    return {
        anchor: f"Figure {next(numbers)}" if heading == "Figure" else heading
        for anchor, heading, content in (
            ("label", page.picks.heading if page.picks else "", page.picks),
            ("findings", "Findings", page.findings),
            ("metrics", "Metrics", page.metric_tables),
            ("labeling", "Figure", page.metric_tables),
            ("training", "Figure", page.training_table),
            ("budgets", "Budgets", page.efficiency_tables),
            ("paper", "Paper", page.paper_tables),
            ("scores", "Figure", page.data.get("histograms")),
            ("rankings", "Figure", page.data.get("ranking")),
            ("picked", "Picks" if page.data.get("durations") else "Kinds", page.duration_table),
            ("listen", "Listen", page.listen),
            ("gate", "Left out", page.gate),
            ("how", "How", True),
        )
        if content
    }


def _scripts(page: Page) -> list[str]:
    """The parts of the page's script, in their order; those of sections that it has."""
    parts = {
        **dict.fromkeys(("charts.js", "drawing.js"), True),
        **dict.fromkeys(("curves.js", "training.js"), bool(page.metric_tables)),
        **dict.fromkeys(("rankings.js", "picks.js"), True),
        "budget.js": page.picks is not None,
        "gate.js": page.gate is not None,
        "start.js": True,
    }
    return [name for name, is_needed in parts.items() if is_needed]


def _part(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _with_units(text: str) -> str:
    """Keep a number and its unit on one line."""
    return _BEFORE_UNIT.sub(_NO_BREAK_SPACE, text)


def _breakable(text: str) -> markupsafe.Markup:
    """Let a path break after its slashes and the like rather than within a name."""
    import markupsafe

    return markupsafe.Markup("<wbr>").join(_PATH_PARTS.split(text))


def _by_word(command: str) -> markupsafe.Markup:
    """Let a command break between its words, not after the hyphens of an option."""
    import markupsafe

    word = markupsafe.Markup('<span class="word">{}</span>')
    return markupsafe.Markup(" ").join(map(word.format, command.split(" ")))


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
    """The content security policy: "none", except for what the page itself carries."""

    def digest(content: str) -> str:
        made = hashlib.sha256(content.encode("utf-8")).digest()
        return f"'sha256-{base64.b64encode(made).decode()}'"

    return (
        f"default-src 'none'; script-src {' '.join(map(digest, scripts))}; "
        f"style-src {digest(style)}; img-src data:; media-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
