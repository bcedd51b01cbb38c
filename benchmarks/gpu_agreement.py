"""The GPU's results against the CPU's: python benchmarks/gpu_agreement.py --out FILE

Records of the sample pool and tensors of the operators. gpu_report.py runs this as a step.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_workloads import EXAMPLES, batch_of_logits, has_errors, measure, scored, scorer_on
from machine import machine
from torch import Tensor

from egl_fast import ScoreRecord, _extension, ops
from egl_fast.methods.exact import SPAN

SCORES = ("egl", "egl_normalized", "beam_mass", "entropy", "pctc")

#: Each engine is within DESIGN.md's promise of float64, so two are within twice that.
PROMISED = {"float32": 2e-4, "float64": 2e-9}


@dataclass(frozen=True)
class Sizes:
    """How much is compared.

    Attributes:
        device: "cuda"; "cpu" rehearses.
        k: hypotheses.
        clips: recordings of the pool in float32.
        double_clips: in float64.
    """

    device: str = "cuda"
    k: int = 100
    clips: int = 24
    double_clips: int = 6


def main() -> int:
    """Compare; status 1 if a part failed or a result is not what it has to be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model", type=Path, default=EXAMPLES / "base.pt")
    parser.add_argument("--pool", type=Path, default=EXAMPLES / "pool.jsonl")
    options = parser.parse_args()
    sizes = Sizes() if torch.cuda.is_available() else Sizes("cpu", k=5, clips=3, double_clips=1)
    return 0 if passed(measure(parts(options.model, options.pool, sizes), options.out)) else 1


def parts(model: Path, pool: Path, sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """By name, in order."""
    return {
        "machine": machine,
        "gpu": lambda: gpu_facts(sizes.device),
        "operators": lambda: operators(model, pool, sizes),
        "repeatable": lambda: repeatable(model, pool, sizes),
        "records": lambda: agreements(model, pool, sizes),
    }


def passed(measured: dict[str, Any]) -> bool:
    """Whether no part failed, and every result that was judged is right."""
    if has_errors(measured):
        return False
    judged = [*measured["records"], measured["repeatable"]]
    judged += measured["operators"]
    return all(part["holds"] is not False for part in judged)


def gpu_facts(device: str) -> dict[str, Any]:
    """Of the first GPU, by torch."""
    if device == "cpu":
        return {"name": "none"}
    properties = torch.cuda.get_device_properties(0)
    build = _extension.build_info()
    return {
        "name": properties.name,
        "architecture": f"sm_{properties.major}{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "nvcc": build["cuda_version"],
        "architectures": str(build["cuda_architectures"]),
    }


def agreements(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The GPU's records against the CPU's, in float32, float64 and with shorter products."""

    def records(device: str, dtype: str, clips: int, precision: str) -> list[ScoreRecord]:
        scorer = scorer_on(device, model, precision=precision)
        scorer.model.to(getattr(torch, dtype))
        return scored(scorer, pool, clips=clips, k=sizes.k, per_hypothesis=True)[0]

    for dtype, clips in (("float64", sizes.double_clips), ("float32", sizes.clips)):
        expected = records("cpu", dtype, clips, "float32")
        found = records(sizes.device, dtype, clips, "float32")
        yield {"what": dtype, **agreement(found, expected, PROMISED[dtype])}
    if sizes.device == "cuda":
        for precision in ("tf32", "bf16"):
            found = records(sizes.device, "float32", sizes.clips, precision)
            yield {"what": f"{precision} on the GPU", **agreement(found, expected, None)}


def agreement(
    found: Sequence[ScoreRecord], expected: Sequence[ScoreRecord], promised: float | None
) -> dict[str, Any]:
    """How far two engines' records are apart; whether the squared norms keep the promise."""
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
    """The difference, relative to what is expected."""
    return abs(found - expected) / abs(expected) if expected else abs(found)


def repeatable(model: Path, pool: Path, sizes: Sizes) -> dict[str, Any]:
    """Whether a second run gives the same bits."""
    scorer = scorer_on(sizes.device, model)
    first, second = (
        scored(scorer, pool, clips=sizes.clips, k=sizes.k, per_hypothesis=True)[0] for _ in range(2)
    )
    different = sum(one != other for one, other in zip(first, second, strict=True))
    return {"utterances": len(first), "different": different, "holds": different == 0}


def operators(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The CTC operators on one batch of real speech: results compared."""
    on_cpu = batch_of_logits(scorer_on("cpu", model), pool, min(sizes.clips, 32))
    on_gpu = tuple(tensor.to(sizes.device) for tensor in on_cpu)
    log_probs = [logits.double().log_softmax(2) for logits, _ in (on_cpu, on_gpu)]
    hypotheses = ops.ctc_beam_search(log_probs[0], on_cpu[1], num_hypotheses=sizes.k)
    k = sizes.k
    works: dict[str, Callable[[int], list[Tensor]]] = {
        "ctc_beam_search": lambda i: of_search(
            ops.ctc_beam_search(log_probs[i], (on_cpu, on_gpu)[i][1], num_hypotheses=k)
        ),
        "ctc_logits_cotangents": lambda i: list(
            ops.ctc_logits_cotangents(
                log_probs[i],
                (on_cpu, on_gpu)[i][1],
                hypotheses.to(log_probs[i].device),
            )
        ),
        "ctc_nbest_cotangents, all": lambda i: of_nbest(
            ops.ctc_nbest_cotangents(*(on_cpu, on_gpu)[i], num_hypotheses=k)
        ),
        "ctc_nbest_cotangents, their span": lambda i: of_nbest(
            ops.ctc_nbest_cotangents(*(on_cpu, on_gpu)[i], num_hypotheses=k, span=SPAN)
        ),
    }
    for name, work in works.items():
        expected, found = work(0), work(1)
        largest = max(
            largest_difference(there.cpu(), here)
            for there, here in zip(found, expected, strict=True)
        )
        yield {
            "what": name,
            "shape": list(on_cpu[0].shape),
            "largest_difference": largest,
            "holds": largest <= 1e-5,
        }


def of_search(found: ops.Hypotheses) -> list[Tensor]:
    """What has to agree: near-ties aside, everything."""
    assert found.log_prob is not None
    return [found.log_prob.double().exp(), found.counts]


def of_nbest(found: ops.NbestCotangents) -> list[Tensor]:
    """Invariants of the basis that was chosen."""
    assert found.hypotheses.log_prob is not None
    return [
        found.hypotheses.log_prob.double().exp(),
        found.cotangents.double().square().sum((1, 2, 3)),
    ]


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Relative to the largest of what is expected."""
    expected, found = expected.double(), found.double()
    if expected.shape != found.shape:
        return float("inf")
    finite = expected.isfinite()
    if not torch.equal(finite, found.isfinite()) or not finite.any():
        return float("inf")
    scale = expected[finite].abs().max().item() or 1.0
    return (found[finite] - expected[finite]).abs().max().item() / scale


if __name__ == "__main__":
    sys.exit(main())
