"""What the modules of a folder are, in a line each."""

from __future__ import annotations

import ast
from pathlib import Path


def descriptions(folder: Path) -> dict[str, str]:
    """Module name -> first line of its docstring, of all public modules; none is imported."""
    found = {}
    for path in sorted(folder.glob("[a-z]*.py")):
        documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        line = documentation.partition("\n")[0].rstrip(".")
        found[path.stem] = line[:1].lower() + line[1:]
    return found
