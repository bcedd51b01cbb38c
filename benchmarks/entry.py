"""One entry of the results file, which a benchmark fills in as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from egl_fast.benchmarking.interleaved import Timings

#: What everything else is compared with.
OWN = "egl-fast"


class Entry:
    """Facts, times, and figures of one benchmark.

    Args:
        name: of the test.
        print_line: prints while tests run.

    Attributes:
        facts: what goes into the file.
    """

    def __init__(self, name: str, print_line: Callable[[str], None]) -> None:
        self.facts: dict[str, Any] = {"group": None, "name": name}
        self._print_line = print_line

    def keep(self, group: str, timings: Timings, *, own: str = OWN, **facts: Any) -> None:
        """Add what was timed, and facts about it.

        Args:
            group: the section of docs/performance.md that it belongs to.
            timings: of everything that was compared.
            own: what ratios are relative to.
            facts: in JSON.
        """
        summary = timings.summary(relative_to=own)
        self.facts |= {"group": group, "rounds": len(timings[own]), "timings": summary, **facts}
        for name, one in summary.items():
            times = f", {one['times']:.2g} times {own}" if "times" in one else ""
            self.say(f"{name}: {1e3 * one['median_s']:.4g} ms{times}")

    def figure(self, name: str, value: float) -> None:
        """Add one of the figures of ``must_hold``."""
        self.facts.setdefault("figures", {})[name] = value

    def remark(self, text: str) -> None:
        """Add and print what a reader of the numbers must know, such as what is not compared."""
        self.facts.setdefault("remarks", []).append(text)
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line at once."""
        self._print_line(f"    {text}")
