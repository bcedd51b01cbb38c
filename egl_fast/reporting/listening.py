"""The listening table: each strategy's top picks, to be heard, seen and read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.reporting.clips import MAX_SECONDS, Clip, make_clip
from egl_fast.reporting.evaluation import Series
from egl_fast.reporting.names import look
from egl_fast.reporting.page_model import Heard, Listen, Page
from egl_fast.reporting.ranking import Ranking
from egl_fast.reporting.scores_file import GROUP_KEYS, ScoresFile

Integers = npt.NDArray[np.int64]

MAX_HYPOTHESES = 8
#: What sound and pictures of a page may take, as written into it; clips beyond are text alone.
MAX_MEDIA_BYTES = 3 * 2**20
_MAX_TEXT = 600


def add_listening(
    page: Page,
    pool: ScoresFile,
    picks: Mapping[Series, Integers],
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
        top: how many a series; 0 for no table.
        advance: called at each recording.
    """
    if top == 0 or not picks:
        return
    top_of: dict[int, dict[int, int]] = {}
    for series, indices in picks.items():
        place = page.looks.index(look(series))
        page.listen_series.append((place, look(series).label))
        for rank, index in enumerate(indices[:top].tolist(), start=1):
            top_of.setdefault(index, {})[place] = rank
    # 1 + how many stand higher, so that equal scores share a rank.
    standing = {
        name: (place, 1 + np.searchsorted(np.sort(-scores), -scores[list(top_of)]))
        for name, scores in pool.strategies.items()
        if name in {series.strategy for series in picks}
        for place in [page.looks.index(look(Series(name, "single")))]
    }
    media, missing, over = 0, 0, 0
    for at, (index, record) in enumerate(zip(top_of, pool.records(top_of), strict=True)):
        advance()
        if media > MAX_MEDIA_BYTES:
            over += 1
            clip = Clip(None, None, 0.0, "left out, to keep the page small")
        else:
            clip = _clip_of(record, audio_folder)
            missing += clip.problem is not None
        media += len(clip.audio or "") + len(clip.thumbnail or "")
        page.listen.append(
            Listen(
                number=at + 1,
                id=record["id"],
                tags=tuple(
                    value
                    for key in GROUP_KEYS
                    if isinstance(value := record.get(key), str) and value
                ),
                seconds=float(pool.durations[index]),
                text=_text(record["text"]) if isinstance(record.get("text"), str) else None,
                pred_text=_text(record.get("pred_text")),
                scores=tuple(
                    (look(Series(name, "single")).label, place, int(ranks[at]),
                     _score(pool.strategies[name][index]))
                    for name, (place, ranks) in standing.items()
                ),
                top_of=top_of[index],
                clip=clip,
                hypotheses=_hypotheses(record),
                beam_mass=_probability(record.get("beam_mass")),
            )
        )  # fmt: skip
    page.listen_note = _note(missing, over, len(page.listen))
    page.data["listenIds"] = {one.id: one.number for one in page.listen}


def _note(missing: int, over: int, total: int) -> str:
    parts = []
    if missing:
        parts.append(f"{missing} of {total} recordings could not be read; their rows say why.")
    if over:
        parts.append(f"{over} of {total} are shown without sound, to keep the page small.")
    return " ".join(parts)


def _clip_of(record: Mapping[str, Any], audio_folder: Path) -> Clip:
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio or "\0" in audio:
        return Clip(None, None, 0.0, "the record names no recording")
    offset, duration = (_seconds(record.get(key)) for key in ("offset", "duration"))
    return make_clip(
        audio_folder / audio, offset_seconds=offset or 0.0, duration_seconds=duration or MAX_SECONDS
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        return None
    return float(value)


def _hypotheses(record: Mapping[str, Any]) -> tuple[Heard, ...]:
    """The best hypotheses, with what each adds to EGL's sum; what is malformed is left out."""
    lines = record.get("hypotheses")
    if not isinstance(lines, list):
        return ()
    read = []
    for line in lines:
        try:
            log_prob, sq_norm = float(line["log_prob"]), float(line["sq_grad_norm"])
            read.append((_text(line["text"]), log_prob, sq_norm))
        except (KeyError, TypeError, ValueError):
            continue
    if not read:
        return ()
    highest = max(log_prob for _, log_prob, _ in read)
    # Relative to the best: with long recordings exp(log_prob) itself is 0.
    parts = [math.exp(log_prob - highest) * sq_norm for _, log_prob, sq_norm in read]
    total = sum(parts)
    return tuple(
        Heard(
            text,
            _probability_of(log_prob),
            f"{sq_norm:.3g}",
            f"{100 * part / total:.0f} %" if total > 0 else "–",
        )
        for (text, log_prob, sq_norm), part in list(zip(read, parts, strict=True))[:MAX_HYPOTHESES]
    )


def _score(value: float) -> str:
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _probability_of(log_prob: float) -> str:
    """A probability, also where it is too small for a float: 1e-400 is a power of ten."""
    digits = log_prob / math.log(10)
    if digits > -3:
        return f"{math.exp(log_prob):.3f}"
    exponent = math.floor(digits)
    return f"{10 ** (digits - exponent):.1f}e{exponent}"


def _probability(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
