"""Progress in a log, where no terminal shows a bar; tables."""

from __future__ import annotations

import pytest
from rich.table import Table

from egl_fast.cli import console


def test_a_log_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress_bar() as bar:
        task = bar.add_task("scoring", total=1000, note="")
        for second in range(151):
            now[0] = float(second)
            bar.update(task, completed=second, note="1.00/s")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("scoring: 60/1000 1.00/s")
    assert lines[1].startswith("scoring: 120/1000 1.00/s")


def test_a_table_is_never_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("name", *(f"column {i}" for i in range(6)))
    for column in table.columns:
        column.no_wrap = True
    table.add_row("lowrank --tolerance 0.01", *["0.000966123"] * 6)
    console.tell_table(table)
    printed = capsys.readouterr().out
    assert printed.count("0.000966123") == 6
    assert "…" not in printed
