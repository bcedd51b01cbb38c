"""The tutorial on the sample; ``label_studio_export.py`` stands in for what people do in a browser.

``make check-label-studio`` runs the same commands with a real Label Studio, and all epochs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from documentation import ROOT
from test_doc_examples import Example, comes_out_as_written, session

PAGE = ROOT / "docs" / "tutorial.md"
EXPORT = Path(__file__).with_name("label_studio_export.py")
EPOCHS = "--max-epochs 3"
#: What differs from machine to machine.
MEASURED = r"\d+\.\d+|\.\.\."


def quicker(example: Example) -> Example:
    """The same with one epoch; what the gate leaves out then is not what the page has."""
    expected = (example.expected or "").replace("...\nbest: epoch 3", "best: epoch 1")
    if "tasks2.json" in example.command:
        expected = "..." + expected.splitlines(keepends=True)[-1]
    return Example(example.command.replace(EPOCHS, "--max-epochs 1"), expected)


def anywhere(example: Example) -> Example:
    """The same with any measurements; slow machines print their progress in between."""
    lines = (example.expected or "").splitlines(keepends=True)
    masked = [re.sub(f"^|{MEASURED}", "...", x) if re.search(MEASURED, x) else x for x in lines]
    return Example(example.command, "".join(masked))


def test_the_tutorial_comes_out_as_written(tmp_path: Path) -> None:
    wanted = [anywhere(quicker(example)) for example in session(PAGE)]
    [comes_back] = [n for n, one in enumerate(wanted) if " export.json" in one.command]
    program = f"{sys.executable} {EXPORT} tasks.json export.json"
    wanted.insert(comes_back, Example(program, ""))
    comes_out_as_written(PAGE, wanted, tmp_path)
