"""The listening table: each strategy's top picks, to be heard, seen and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.data.manifest import seconds_of
from egl_fast.errors import ManifestError
from egl_fast.evaluation.reporting.excerpts import MAX_SECONDS, Excerpt, make_excerpt
from egl_fast.evaluation.reporting.measures import Series
from egl_fast.evaluation.reporting.names import look
from egl_fast.evaluation.reporting.page_model import Page
from egl_fast.evaluation.reporting.ranking import Ranking
from egl_fast.evaluation.reporting.scores_file import GROUP_KEYS, ScoresFile
from egl_fast.evaluation.reporting.wording import plain, plain_exp, shown_id, shown_text

MAX_HYPOTHESES = 8
#: What sounds and pictures of a page may take, as written into it; recordings beyond are text only.
MAX_MEDIA_BYTES = 3 * 2**20
_MAX_TEXT = 600
_MAX_TAG = 60


def add_listening(
    page: Page,
    pool: ScoresFile,
    picks: Mapping[Series, npt.NDArray[np.int64]],
    ranking: Ranking,
    audio_folder: Path,
    top: int,
    advance: Callable[[], None],
) -> None:
    """The first ``top`` picks of every series, each recording once.

    Args:
        page: gets the recordings; one that cannot be heard says why.
        pool: the scores.
        picks: positions in the pool, most wanted first.
        ranking: of the pool.
        audio_folder: what relative audio paths count from.
        top: how many per series; 0 for no table.
        advance: called for each recording.
    """
    if top == 0 or not picks:
        return
    top_of: dict[int, dict[int, int]] = {}
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
    media, problems, over = 0, [], 0
    for at, (index, record) in enumerate(zip(top_of, pool.records(top_of), strict=True)):
        advance()
        if media > MAX_MEDIA_BYTES:
            over += 1
            excerpt = Excerpt(None, None, 0.0, "left out, to keep the page small")
        else:
            excerpt = _excerpt_of(record, audio_folder)
            problems += [excerpt.problem] if excerpt.problem is not None else []
        media += len(excerpt.audio or "") + len(excerpt.thumbnail or "")
        mass = float(pool.beam_mass[index])
        tags = (shown_text(record.get(key), most=_MAX_TAG) for key in GROUP_KEYS)
        text = record.get("text")
        standing = [
            (look(single).label, page.place(single), int(of[at]), _score(pool, name, index))
            for name, of in ranks.items()
            for single in [Series(name, "single")]
        ]
        page.listen.append(
            {
                "number": at + 1,
                "id": shown_id(record["id"]),
                "tags": [tag for tag in tags if tag],
                "seconds": float(pool.durations[index]),
                "text": shown_text(text, most=_MAX_TEXT) if isinstance(text, str) else None,
                "pred_text": shown_text(record.get("pred_text"), most=_MAX_TEXT),
                "scores": standing,
                "top_of": top_of[index],
                "excerpt": excerpt,
                "hypotheses": _hypotheses(record),
                "beam_mass": "" if math.isnan(mass) else plain(mass),
            }
        )
    if over:
        page.listen_note = (
            f"{over} of {len(page.listen)} recordings are shown without sound, to keep the page "
            "small."
        )
    if problems:
        page.warnings.append(_without_sound(problems, len(page.listen)))
    numbers = {index: at for at, index in enumerate(top_of, start=1)}
    utterances = page.data["ranking"]["utterances"]
    for index, utterance in zip(ranking.shown.tolist(), utterances, strict=True):
        if index in numbers:
            utterance["n"] = numbers[index]


def _without_sound(problems: list[str], total: int) -> str:
    if len(problems) == total == 1:
        return f"The top pick cannot be played: {problems[0]}."
    if len(problems) == total:
        return f"None of the {total} top picks can be played. The first: {problems[0]}."
    return (
        f"{len(problems)} of the {total} top picks cannot be played; their rows say why. The "
        f"first: {problems[0]}."
    )


def _excerpt_of(record: Mapping[str, Any], audio_folder: Path) -> Excerpt:
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio or "\0" in audio:
        return Excerpt(None, None, 0.0, "the record names no recording")
    offset, duration = (_seconds(record, key) for key in ("offset", "duration"))
    return make_excerpt(
        audio_folder / audio, offset_seconds=offset or 0.0, duration_seconds=duration or MAX_SECONDS
    )


def _seconds(record: Mapping[str, Any], key: str) -> float | None:
    try:
        return seconds_of(record, key, "")
    except ManifestError:
        return None


def _hypotheses(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The best hypotheses, with what each adds to EGL's sum; malformed ones are left out."""
    lines = record.get("hypotheses")
    read = []
    for line in lines if isinstance(lines, list) else ():
        try:
            log_prob, sq_norm = float(line["log_prob"]), float(line["sq_grad_norm"])
            text = shown_text(line["text"], most=_MAX_TEXT)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if -1e9 < log_prob < 1e-3 and math.isfinite(sq_norm):
            read.append((text, log_prob, sq_norm))
    highest = max((log_prob for _, log_prob, _ in read), default=0.0)
    # Relative to the best: for long recordings exp(log_prob) itself is 0.
    parts = [math.exp(log_prob - highest) * sq_norm for _, log_prob, sq_norm in read]
    total = sum(parts)
    return [
        {
            "text": text,
            "probability": plain_exp(log_prob),
            "sq_grad_norm": plain(sq_norm),
            "share": f"{100 * part / total:.0f}%" if total > 0 else "–",
        }
        for (text, log_prob, sq_norm), part in list(zip(read, parts, strict=True))[:MAX_HYPOTHESES]
    ]


def _score(pool: ScoresFile, strategy: str, index: int) -> str:
    """A score and, where it is an estimate, its standard error."""
    score = plain(float(pool.strategies[strategy][index]))
    stderr = float(pool.stderrs[strategy][index]) if strategy in pool.stderrs else 0.0
    return f"{score} ± {plain(stderr, digits=2)}" if stderr > 0 else score
