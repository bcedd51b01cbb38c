"""The part of docs/findings.md that ``experiments/write_findings.py`` makes of these trainings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from results import error_rate
from table import AGAINST, Difference, Results, difference, junk_share, read, rows

POOLS = {
    "accented": (
        "Accented English, a pretrained recognizer",
        "The paper's regime. A QuartzNet 15x5, pretrained on thousands of hours of other speech, "
        "is adapted to English of Mandarin speakers, half of them children. Pool of a draw: half "
        "of speechocean762's training speakers, 133 outliers, and 30 recordings that experts "
        "hardly understood.",
    ),
    "clean": (
        "A clean pool, a pretrained recognizer",
        "The same without the outliers and without what experts hardly understood.",
    ),
    "mixed": (
        "Mixed and redundant, a pretrained recognizer",
        "The same recognizer and the pool of a company: accented English as above, 500 commands of "
        "one talker, 700 spoken digits, a little of LibriSpeech and AN4, 133 outliers. Errors are "
        "the mean over the five corpora.",
    ),
}

#: What is recommended, and what it is measured against.
RECOMMENDED = "gate pctc"


def pools(folder: Path) -> dict[str, Results]:
    """Pool -> its results, for those where something can be said."""
    found = {name: read(folder, name) for name in POOLS}
    return {
        name: results
        for name, results in found.items()
        if max(map(len, results.values()), default=0) > 1
    }


def verdict(found: Difference | None) -> str:
    """Whether the first of two does better, and by how many points."""
    if found is None:
        return ""
    word = "not seen"
    if found.mean + found.half < 0:
        word = "perhaps" if found.num_worse else "**yes**"
    elif found.mean - found.half > 0:
        word = "**the reverse**"
    return f"{word}: {100 * found.mean:+.2f} ± {100 * found.half:.2f}"


def blocks(folder: Path) -> Iterator[str]:
    """Paragraphs and tables, in Markdown."""
    for name, results in pools(folder).items():
        heading, words = POOLS[name]
        yield f"## {heading}"
        yield (
            f"{words} {_numbers(results)} The budget is a fifth of the pool's audio. What a "
            "careful annotator rejects is paid for, but not trained on. A draw is another pool, "
            "another trusted set, and another seed of the training; the test set is the same. "
            "(`experiments/adaptation/`)"
        )
        yield _table([*rows(results, AGAINST)])
        yield (
            "Error rates and differences in points. Differences are paired by draw, with Student's "
            "95% interval over draws; bold: it excludes zero; *worse*: number of draws that are "
            "worse by an interval over test recordings. *gate*: without what `--drop-atypical "
            "auto` leaves out; *early gate*: before typicality looked at the audio's spectrum; "
            "*speech*: without all outliers, which nobody can do in practice; "
            "*clusters*: shares by cluster; *egl_target*, *logdet*, *bait*: "
            "[decisions](decisions.md#tried-scores-aimed-at-a-target)."
        )


def _numbers(results: Results) -> str:
    base, bounds = results["nothing"], results.get("everything", {})
    draws = max(len(by_draw) for by_draw in results.values())
    start = np.mean([error_rate(one) for one in base.values()])
    said = f"{draws} draws. CER {start:.1%} before"
    if bounds:
        end = np.mean([error_rate(one) for one in bounds.values()])
        said += f", {end:.1%} with the whole pool labeled ({len(bounds)} draws)"
    return f"{said}."


def _table(lines: list[list[str]]) -> str:
    text = [f"| {' | '.join(line)} |" for line in lines]
    text.insert(1, f"|{' --- |' * len(lines[0])}")
    return "\n".join(text)


def in_short(folder: Path) -> Iterator[str]:
    """Whether the recommended strategy does what it is recommended for."""
    found = pools(folder)
    if not found:
        return
    head = ["", *(POOLS[name][0].partition(",")[0] for name in found)]
    lines = [head]
    for other in (*AGAINST, "gate entropy", "early gate egl_full"):
        cells = [
            verdict(difference(results.get(RECOMMENDED, {}), results.get(other, {})))
            for results in found.values()
        ]
        lines.append([f"beats {other}", *cells])
    shares = [
        f"{junk_share(results[RECOMMENDED]):.0%}, {junk_share(results['random']):.0%}"
        for results in found.values()
    ]
    lines.append(["junk among its picks, among random picks", *shares])
    yield (
        "**What is recommended**: pCTC behind the gate, which is what `select` does by default "
        "with a pool that was scored with `--typicality`. A pretrained recognizer, a fifth of the "
        "audio picked; difference of the character error rate in points, 95% interval over draws."
    )
    yield _table(lines)
