"""What a run reports, each number once, however often the run is stopped and resumed.

What a tool has seen is in ``reports.json`` in the run's folder; it is sent the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from egl_fast.errors import ConfigError, MissingExtraError, OutputError, one_line
from egl_fast.files import atomic
from egl_fast.hashing import hashed
from egl_fast.tracking.backends import BACKENDS, Backend
from egl_fast.tracking.listener import Entry, Listener
from egl_fast.warning import warn


@dataclass(frozen=True)
class Target:
    """What ``--report-to`` names: a tool, and a place there."""

    tool: str
    place: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """From ``TOOL:PLACE``.

        Raises:
            ConfigError: it is something else.
            MissingExtraError: the tool's package is not installed.
        """
        tool, _, place = text.partition(":")
        if tool not in BACKENDS or not place:
            known = "tensorboard:DIR, wandb:PROJECT, or mlflow:URI"
            raise ConfigError(f"--report-to {text}: expected {known}")
        if find_spec(BACKENDS[tool][1]) is None:
            raise MissingExtraError(
                f"--report-to {text}: needs {tool}: pip install 'egl-fast[{tool}]'"
            )
        return cls(tool, place)

    def __str__(self) -> str:
        return f"{self.tool}:{self.place}"


@dataclass
class _Report:
    backend: Backend
    seen: list[str] = field(default_factory=list)
    failed: bool = False


class Reports(Listener):
    """The reports of one run, to any number of tools.

    Args:
        targets: where they go.
        folder: of the run.
        axis: what steps count.
        settings: plain values that decide the numbers. With others, a report begins again.

    Raises:
        OutputError: a tool cannot be reached, or ``reports.json`` cannot be written; the latter
            also of ``measured``.
    """

    def __init__(
        self, targets: Sequence[Target], folder: Path, *, axis: str, settings: Mapping[str, Any]
    ) -> None:
        self._path = folder / "reports.json"
        self._settings = hashed(json.dumps(settings, sort_keys=True)).hex()
        self._reports: dict[str, _Report] = {}
        self._entries: dict[str, Entry] = {}
        for target in targets:
            known = self._known().get(str(target), {})
            same = known.get("settings") == self._settings
            run, seen = (known["run"], known["seen"]) if same else ("", [])
            kind, _ = BACKENDS[target.tool]
            try:
                backend = kind(target.place, run, name=folder.name, axis=axis, settings=settings)
            except Exception as error:
                raise OutputError(f"--report-to {target}: {one_line(error)[:300]}") from error
            self._reports[str(target)] = _Report(backend, list(seen))
        self._save()

    def measured(self, entries: Sequence[Entry]) -> None:
        """Report the entries that were not reported before, by this process or an earlier one.

        A tool that fails costs a warning, not the run; what it missed is reported the next time.
        """
        self._entries |= {entry.key: entry for entry in entries}
        for name, report in self._reports.items():
            seen = set(report.seen)
            try:
                for entry in self._entries.values():
                    if entry.key not in seen:
                        report.backend.log(entry.numbers, entry.step)
                        report.seen.append(entry.key)
            except Exception as error:
                if not report.failed:
                    warn(f"--report-to {name}: {one_line(error)[:300]}; trying again later")
                report.failed = True
        self._save()

    def finished(self, status: int, error: BaseException | None) -> None:
        for name, report in self._reports.items():
            try:
                report.backend.close(finished=status in (0, 3))
            except Exception as failure:
                warn(f"--report-to {name}: {one_line(failure)[:300]}")

    def _known(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise OutputError(
                f"output {self._path}: is damaged ({one_line(error)}); remove it, and reports "
                "begin again"
            ) from None
        return found

    def _save(self) -> None:
        if self._reports:
            now = {
                name: {"run": report.backend.run, "settings": self._settings, "seen": report.seen}
                for name, report in self._reports.items()
            }
            atomic.write_json(self._path, {**self._known(), **now})
