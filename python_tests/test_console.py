"""Progress in a log, where no terminal shows a bar."""

from __future__ import annotations

import pytest

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
