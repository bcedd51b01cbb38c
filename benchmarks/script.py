"""What the scripts share: where the repository is, their options, and how results are shown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "examples" / "base.pt"
POOL = ROOT / "examples" / "pool.jsonl"
RESULTS = ROOT / "benchmarks" / "results"


def options_of(doc: str | None, *, pools: bool = False, **defaults: int) -> argparse.ArgumentParser:
    """A parser with ``--model`` and ``--pool``, to which a script adds its own options.

    Args:
        doc: of the script; its first line is the description.
        pools: whether ``--pool`` takes several manifests.
        defaults: of whole numbers that are options, too, such as ``recordings``.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    if pools:
        parser.add_argument("--pool", type=Path, nargs="+", default=[POOL])
    else:
        parser.add_argument("--pool", type=Path, default=POOL)
    for name, default in defaults.items():
        evenly = "taken evenly over the pool" if name == "recordings" else None
        parser.add_argument(f"--{name}", type=int, default=default, help=evenly)
    return parser


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, results: Any) -> None:
    """Write a results file."""
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(row) + " |"
