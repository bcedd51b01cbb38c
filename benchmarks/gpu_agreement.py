"""The GPU's results against the CPU's: python benchmarks/gpu_agreement.py --out FILE

Compares records of the sample pool, and tensors of the operators. gpu_report.py runs this as a
step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from gpu_workloads import Measured, Parts, Workload, has_errors, run
from torch import Tensor

from egl_fast import ScoreRecord, ops
from egl_fast.compute.precision import Precision
from egl_fast.methods.exact import SPAN

SCORES = ("egl", "egl_normalized", "beam_mass", "entropy", "pctc")

#: Each engine keeps within DESIGN.md's promise of float64, so two are within twice that.
PROMISED = {"float32": 2e-4, "float64": 2e-9}


def parts(work: Workload) -> Parts:
    """By name, in order."""
    return {
        "operators": lambda: operators(work),
        "repeatable": lambda: repeatable(work),
        "records": lambda: agreements(work),
    }


def failed(measured: Measured) -> bool:
    """Whether a part failed, or a result that was judged is wrong."""
    if has_errors(measured):
        return True
    judged = [*measured["records"], measured["repeatable"], *measured["operators"]]
    return any(part["holds"] is False for part in judged)


def agreements(work: Workload) -> Iterator[dict[str, Any]]:
    """The GPU's records against the CPU's, in float32, float64, and with reduced products."""

    def records(
        device: str, dtype: str, recordings: int, precision: Precision = "float32"
    ) -> list[ScoreRecord]:
        scorer = work.scorer(device=device, precision=precision)
        scorer.model.to(getattr(torch, dtype))
        return work.score(scorer, recordings=recordings, per_hypothesis=True)[0]

    for dtype, count in (("float64", work.compared_double), ("float32", work.compared)):
        expected = records("cpu", dtype, count)
        found = records(work.device, dtype, count)
        yield {"what": dtype, **agreement(found, expected, PROMISED[dtype])}
    if work.device == "cuda":
        reduced: tuple[Precision, ...] = ("tf32", "bf16")
        for precision in reduced:
            found = records(work.device, "float32", work.compared, precision)
            yield {"what": f"{precision} on the GPU", **agreement(found, expected, None)}


def agreement(
    found: Sequence[ScoreRecord], expected: Sequence[ScoreRecord], promised: float | None
) -> dict[str, Any]:
    """How far apart two engines' records are, and whether squared norms keep the promise."""
    norms, common, total = [0.0], 0, 0
    for one, other in zip(found, expected, strict=True):
        theirs = {hypothesis.labels: hypothesis.sq_grad_norm for hypothesis in other.hypotheses}
        total += len(theirs)
        for hypothesis in one.hypotheses:
            if hypothesis.labels in theirs:
                common += 1
                norms.append(relative(hypothesis.sq_grad_norm, theirs[hypothesis.labels]))
    scores = {
        name: max(
            relative(getattr(one, name), getattr(other, name))
            for one, other in zip(found, expected, strict=True)
        )
        for name in SCORES
    }
    return {
        "utterances": len(expected),
        "labelings_in_common": common / total,
        "same_best_labeling": sum(
            one.pred_text == other.pred_text for one, other in zip(found, expected, strict=True)
        ),
        "sq_grad_norm": max(norms),
        **scores,
        "promised": promised,
        "holds": None if promised is None else max(norms) <= promised,
    }


def relative(found: float, expected: float) -> float:
    """The difference relative to what is expected."""
    return abs(found - expected) / abs(expected) if expected else abs(found)


def repeatable(work: Workload) -> dict[str, Any]:
    """Whether a second run gives the same bits."""
    scorer = work.scorer()
    first, second = (
        work.score(scorer, recordings=work.compared, per_hypothesis=True)[0] for _ in range(2)
    )
    different = sum(one != other for one, other in zip(first, second, strict=True))
    return {"utterances": len(first), "different": different, "holds": different == 0}


def operators(work: Workload) -> Iterator[dict[str, Any]]:
    """The CTC operators on one batch of real speech: results compared."""
    logits, lengths = work.logits(work.scorer(device="cpu"), work.compared)
    k = work.k
    log_probs = logits.double().log_softmax(2)
    hypotheses = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k)

    def run(device: str) -> dict[str, list[Tensor]]:
        own, own_lengths = logits.to(device), lengths.to(device)
        # On the device, whose log-softmax is compared as well.
        own_log_probs = own.double().log_softmax(2)
        found = ops.ctc_beam_search(own_log_probs, own_lengths, num_hypotheses=k)
        cotangents = ops.ctc_logits_cotangents(
            own_log_probs, own_lengths, hypotheses.to(own.device)
        )
        nbest = {
            name: ops.ctc_nbest_cotangents(own, own_lengths, num_hypotheses=k, span=span)
            for name, span in (("all", None), ("their span", SPAN))
        }
        return {
            "ctc_beam_search": of_search(found),
            "ctc_logits_cotangents": list(cotangents),
            **{f"ctc_nbest_cotangents, {name}": of_nbest(one) for name, one in nbest.items()},
        }

    expected, found = run("cpu"), run(work.device)
    for name in expected:
        largest = max(map(largest_difference, found[name], expected[name]))
        yield {
            "what": name,
            "shape": list(logits.shape),
            "largest_difference": largest,
            "holds": largest <= 1e-5,
        }


def of_search(found: ops.Hypotheses) -> list[Tensor]:
    """What has to agree even if near-ties swap places."""
    assert found.log_prob is not None
    return [found.log_prob.double().exp(), found.counts]


def of_nbest(found: ops.NbestCotangents) -> list[Tensor]:
    """What does not depend on the basis that was chosen."""
    assert found.hypotheses.log_prob is not None
    return [
        found.hypotheses.log_prob.double().exp(),
        found.cotangents.double().square().sum((1, 2, 3)),
    ]


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest of what is expected."""
    expected, found = expected.double(), found.double().cpu()
    if expected.shape != found.shape:
        return float("inf")
    finite = expected.isfinite()
    if not torch.equal(finite, found.isfinite()) or not finite.any():
        return float("inf")
    scale = expected[finite].abs().max().item() or 1.0
    return (found[finite] - expected[finite]).abs().max().item() / scale


if __name__ == "__main__":
    sys.exit(run(__doc__, parts, failed))
