"""Sentences about a scored pool: how strategies rank it, and what they pick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from egl_fast.evaluation.reporting.names import label
from egl_fast.evaluation.reporting.picked import Picked
from egl_fast.evaluation.reporting.ranking import Ranking, estimates
from egl_fast.evaluation.reporting.scores_file import ScoresFile
from egl_fast.evaluation.reporting.wording import (
    MINUS,
    RHO,
    SAME_HOURS,
    Finding,
    percent,
    plain,
    signed,
)
from egl_fast.selection import low_mass_warning


def mass_findings(pool: ScoresFile) -> list[Finding]:
    """A warning where EGL follows the probability that the beam holds."""
    masses = pool.beam_mass[~np.isnan(pool.beam_mass)]
    warning = low_mass_warning({"beam_mass": mass} for mass in masses.tolist()[:200_000])
    if warning is None or "egl" not in pool.strategies:
        return []
    text = (
        f"For half of the recordings they hold {plain(float(np.median(masses)))} or less of it. "
        "EGL sums over these labelings only, so it then follows how much they hold more than how "
        "long the gradients are. EGL normalized and EGL full do not have this problem."
    )
    title = "The K most probable labelings cover little of the probability"
    return [Finding("worse", title, text)]


def ranking_findings(ranking: Ranking, by_seed: Sequence[Ranking] = ()) -> list[Finding]:
    """How EGL's ranking compares with entropy's.

    Args:
        ranking: by one base model.
        by_seed: by all base models, to show how far they agree.
    """
    if "entropy" not in ranking.strategies:
        return []
    parts = []
    for subject in ("egl", "egl_normalized", "egl_full"):
        if subject not in ranking.strategies:
            continue
        rho = ranking.between(subject, "entropy")
        if math.isnan(rho.estimate):
            continue
        text = f"{label(subject)} {signed(rho.estimate)} ({signed(rho.low)} to {signed(rho.high)})"
        if len(by_seed) > 1:
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
    pool: Picked,
    picked: Mapping[str, Picked],
    kinds: tuple[str, ...],
    budget: str,
    *,
    whole: str = "pool",
    picked_by: str = "",
) -> list[Finding]:
    """Whether EGL prefers recordings that are not speech, and short or long ones.

    Args:
        pool: all that could be picked.
        picked: by strategy.
        kinds: groups of the key ``kind``, or ().
        budget: which picks these are.
        whole: what all that could be picked is called.
        picked_by: what they leave out, in a sentence, or "".
    """
    subject = "egl" if "egl" in picked else next(iter(picked), None)
    if subject is None:
        return []
    name, own = label(subject), picked[subject]
    found = []
    if "" in kinds and pool.shares["kind"][kinds.index("")] < 1:
        shares = list(zip(kinds, own.shares["kind"], pool.shares["kind"], strict=True))
        odd, expected = (1 - of.shares["kind"][kinds.index("")] for of in (own, pool))
        by_kind = ", ".join(
            f"{kind} {percent(share, digits=1)} ({whole} {percent(base, digits=1)})"
            for kind, share, base in shares
            if kind and share > 0
        )
        title = f"{name} picks {'more' if odd > expected else 'fewer'} outliers than chance"
        if abs(odd - expected) < 0.005:
            title = f"{name} picks outliers about as often as chance"
        text = (
            "Recordings marked as something other than plain speech make up "
            f"{percent(odd, digits=1)} of its top {budget} and {percent(expected, digits=1)} of "
            f"the {whole}{': ' if by_kind else ''}{by_kind}. {picked_by}"
        ).rstrip()
        found.append(Finding("fact", title, text))
    ratio = own.mean_seconds / pool.mean_seconds if pool.mean_seconds else 1.0
    if abs(ratio - 1) > SAME_HOURS:
        title = f"{name} picks {'longer' if ratio > 1 else 'shorter'} recordings than average"
        text = (
            f"Its top {budget} are {own.mean_seconds:.1f} s long on average; the average of the "
            f"{whole} is {pool.mean_seconds:.1f} s. {picked_by}"
        ).rstrip()
        found.append(Finding("fact", title, text))
    return found
