"""The listening table: each strategy's top picks, to be heard, seen and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.reporting.differences import marked
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.sounds import MAX_TEXT, Sounds, heard
from egl_fast.evaluation.reporting.wording import plain, plain_exp, shown_text
from egl_fast.files.addresses import Place

MAX_HYPOTHESES = 8
#: Stands beside the places of series for what `select` picks.
TO_LABEL = -1
#: What sounds and pictures of the table may take; recordings beyond are text only.
MAX_MEDIA_BYTES = 3 * 2**20


def add_listening(
    page: Page,
    pool: ScoresFile,
    picks: Mapping[Series, npt.NDArray[np.int64]],
    audio_folder: Place,
    top: int,
    advance: Callable[[], None],
    *,
    first: Sequence[int] = (),
) -> None:
    """The first ``top`` picks of every series, each recording once.

    Args:
        page: gets the recordings; one that cannot be heard says why.
        pool: the scores.
        picks: positions in the pool, most wanted first; of these series, ranks are shown.
        audio_folder: what relative audio paths count from.
        top: how many per series; 0 for no table.
        advance: called for each recording.
        first: positions that `select` picks first; its gate may leave a series' top picks out.
    """
    if top == 0 or not (picks or len(first)):
        return
    top_of: dict[int, dict[int, int]] = {}
    if len(first):
        page.listen_series.append((TO_LABEL, "what to label"))
    for rank, index in enumerate(first[:top], start=1):
        top_of.setdefault(index, {})[TO_LABEL] = rank
    for series, indices in picks.items():
        page.listen_series.append((page.place(series), look(series).label))
        for rank, index in enumerate(indices[:top].tolist(), start=1):
            top_of.setdefault(index, {})[page.place(series)] = rank
    strategies = {series.strategy for series in picks}
    # 1 + how many rank higher, so that equal scores share a rank.
    ranks = {
        name: 1 + np.searchsorted(np.sort(-scores), -scores[list(top_of)])
        for name, scores in pool.strategies.items()
        if name in strategies
    }
    page.has_ranks = bool(ranks)
    sounds = Sounds(audio_folder, MAX_MEDIA_BYTES)
    for at, (index, record) in enumerate(zip(top_of, pool.records(top_of), strict=True)):
        advance()
        mass = float(pool.beam_mass[index])
        standing = [
            (
                label(name),
                page.place(Series(name, "single")),
                int(ranks[name][at]) if ranks else None,
                _score(pool, name, index),
            )
            for name in ranks or pool.strategies
        ]
        page.listen.append(
            {
                "number": at + 1,
                **heard(record, float(pool.durations[index]), sounds),
                "scores": standing,
                "top_of": top_of[index],
                "hypotheses": _hypotheses(record),
                "beam_mass": "" if math.isnan(mass) else plain(mass),
            }
        )
    if sounds.num_left_out:
        page.listen_note = (
            f"{sounds.num_left_out} of {len(page.listen)} recordings are shown without sound, to "
            "keep the page small."
        )
    page.warnings += sounds.warnings("top pick")
    page.listen_numbers = {index: at for at, index in enumerate(top_of, start=1)}


def readings(record: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """(text, log probability, squared gradient length or None) of hypotheses, best first.

    Malformed ones are left out.
    """
    lines = record.get("hypotheses")
    for line in lines if isinstance(lines, (list, tuple)) else ():
        try:
            log_prob, sq_norm = float(line["log_prob"]), line["sq_grad_norm"]
            sq_norm = None if sq_norm is None else float(sq_norm)
            text = shown_text(line["text"], most=MAX_TEXT)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if -1e9 < log_prob < 1e-3 and math.isfinite(sq_norm or 0.0):
            yield text, log_prob, sq_norm


def _hypotheses(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The best hypotheses, how they differ, and what each adds to EGL's sum."""
    read = list(readings(record))
    highest = max((log_prob for _, log_prob, _ in read), default=0.0)
    # Relative to the best: for long recordings exp(log_prob) itself is 0.
    parts = [math.exp(log_prob - highest) * (sq_norm or 0.0) for _, log_prob, sq_norm in read]
    total = sum(parts)
    return [
        {
            "pieces": marked(read[0][0], text),
            "probability": plain_exp(log_prob),
            "sq_grad_norm": "–" if sq_norm is None else plain(sq_norm),
            "share": f"{100 * part / total:.0f}%" if total > 0 else "–",
        }
        for (text, log_prob, sq_norm), part in list(zip(read, parts, strict=True))[:MAX_HYPOTHESES]
    ]


def _score(pool: ScoresFile, strategy: str, index: int) -> str:
    """A score and, where it is an estimate, its standard error."""
    score = plain(float(pool.strategies[strategy][index]))
    stderr = float(pool.stderrs[strategy][index]) if strategy in pool.stderrs else 0.0
    return f"{score} ± {plain(stderr, digits=2)}" if stderr > 0 else score
