"""Tables of metrics as LaTeX, to be pasted into a paper."""

from __future__ import annotations

import re
from collections.abc import Sequence

from egl_fast.evaluation.reporting.page_model import Table

_SPECIAL = re.compile(r"[\\{}$&#%_~^]")
_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def latex_table(tables: Sequence[Table]) -> str:
    """Tables of the same columns, one below the other; the lowest of each row in bold.

    Needs LaTeX's package booktabs.
    """
    columns = tables[0].columns
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
        r"\toprule",
        _line(["", *map(escaped, columns)]),
    ]
    for table in tables:
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{len(columns) + 1}}}{{l}}{{{escaped(table.caption)}}} \\")
        for row in table.rows:
            cells = (
                rf"\textbf{{{escaped(cell.text)}}}" if cell.best else escaped(cell.text)
                for cell in row.cells
            )
            lines.append(_line([escaped(row.header), *cells]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    Example:
        >>> print(escaped("20% of a_b"))
        20\% of a\_b
    """
    plain = text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], f"\\{found[0]}"), plain)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
