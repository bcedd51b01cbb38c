"""Sentences about a scored pool: how strategies rank it, and what they pick."""

from __future__ import annotations

import math
from collections.abc import Mapping

from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.picked import Picked
from egl_fast.evaluation.reporting.ranking import Ranking, estimates
from egl_fast.evaluation.reporting.wording import MINUS, RHO, SAME_HOURS, Finding, percent, signed


def ranking_findings(ranking: Ranking, by_seed: list[Ranking] | None = None) -> list[Finding]:
    """How EGL's ranking goes with that of confidence.

    Args:
        ranking: of one base model.
        by_seed: of all base models, to show how far they agree.
    """
    subjects = [s for s in ("egl", "egl_normalized", "egl_full") if s in ranking.strategies]
    if "entropy" not in ranking.strategies:
        return []
    parts = []
    for subject in subjects:
        rho = ranking.between(subject, "entropy")
        if math.isnan(rho.estimate):
            continue
        text = f"{label(subject)} {signed(rho.estimate)} ({signed(rho.low)} to {signed(rho.high)})"
        if by_seed and len(by_seed) > 1:
            values = estimates(by_seed, subject, "entropy")
            text += (
                f", over {len(values)} base models {signed(min(values))} to {signed(max(values))}"
            )
        parts.append((subject, rho, text))
    if not parts:
        return []
    subject, rho, _ = parts[0]
    relation = (
        "agrees with" if rho.low > 0 else "runs against" if rho.high < 0 else "is unrelated to"
    )
    return [
        Finding(
            "fact",
            f"{label(subject)}'s ranking {relation} entropy's ({RHO} = {signed(rho.estimate)})",
            "Spearman's rank correlation with entropy, with 95% intervals: "
            + "; ".join(text for _, _, text in parts)
            + f". 1 means the same ranking, {MINUS}1 the reverse, 0 unrelated rankings.",
        )
    ]


def picked_findings(
    pool: Picked, picked: Mapping[str, Picked], kinds: tuple[str, ...], budget: str
) -> list[Finding]:
    """Whether EGL prefers recordings that are not speech, and short or long ones.

    Args:
        pool: all of it.
        picked: by strategy.
        kinds: groups of the key ``kind``, or ().
        budget: which picks these are.
    """
    subject = next((s for s in ("egl", *picked) if s in picked), None)
    if subject is None:
        return []
    name, of = label(subject), picked[subject]
    found = []
    if kinds and "" in kinds:
        plain = kinds.index("")
        odd = 1 - of.shares["kind"][plain], 1 - pool.shares["kind"][plain]
        if odd[1] > 0:
            by_kind = [
                f"{kind} {percent(share, digits=1)} (pool {percent(base, digits=1)})"
                for kind, share, base in zip(
                    kinds, of.shares["kind"], pool.shares["kind"], strict=True
                )
                if kind and share > 0
            ]
            title = f"{name} picks {'more' if odd[0] > odd[1] else 'fewer'} outliers than chance"
            if abs(odd[0] - odd[1]) < 0.005:
                title = f"{name} picks outliers about as often as chance"
            text = (
                "Recordings marked as something other than plain speech make up "
                f"{percent(odd[0], digits=1)} of its top {budget} and {percent(odd[1], digits=1)} "
                "of the pool"
            )
            found.append(
                Finding("fact", title, f"{text}: {', '.join(by_kind)}." if by_kind else f"{text}.")
            )
    ratio = of.mean_seconds / pool.mean_seconds if pool.mean_seconds else 1.0
    if abs(ratio - 1) > SAME_HOURS:
        found.append(
            Finding(
                "fact",
                f"{name} picks {'longer' if ratio > 1 else 'shorter'} recordings than average",
                f"Its top {budget} are {of.mean_seconds:.1f} s long on average; the pool's average "
                f"is {pool.mean_seconds:.1f} s.",
            )
        )
    return found
