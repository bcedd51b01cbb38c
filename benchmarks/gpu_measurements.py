"""What egl_fast makes of a GPU: results against the CPU's first, then speed. One run of each.

    python benchmarks/gpu_measurements.py --out FILE

gpu_report.py runs this after it has built and tested. A part that fails leaves its error in its
place, and the others are measured all the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor

from egl_fast import Scorer, ScoreRecord, _extension, ops
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import read_manifest
from egl_fast.methods.exact import SPAN
from egl_fast.model import DeepSpeech2, preset

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCORES = ("egl", "egl_normalized", "beam_mass", "entropy", "pctc")

#: Each engine is within DESIGN.md's promise of float64, so two are within twice that.
PROMISED = {"float32": 2e-4, "float64": 2e-9}

METHODS: dict[str, dict[str, Any]] = {
    "exact": {"method": "exact"},
    "lowrank, 10 %": {"method": "lowrank", "tolerance": 0.1},
    "probe, 4": {"method": "probe", "probes": 4},
    "exact, and all labelings": {"method": "exact", "full": True},
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        device: where; "cuda", but for tests of this script.
        k: hypotheses.
        clips: of the pool, for results and CPU times of the small model.
        deep: preset that stands for seven layers of 512.
        deep_clips: the same for that, and for float64.
        repeats: of the pool, for throughput.
        rounds: of an operator.
    """

    device: str = "cuda"
    k: int = 100
    clips: int = 64
    deep: str = "paper"
    deep_clips: int = 6
    repeats: int = 20
    rounds: int = 20


def main() -> int:
    """Measure all parts; status 1 if one failed or a result is not what it has to be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model", type=Path, default=EXAMPLES / "base.pt")
    parser.add_argument("--pool", type=Path, default=EXAMPLES / "pool.jsonl")
    parser.add_argument("--repeats", type=int, default=Sizes.repeats, help="of the pool")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_measurements: torch finds no GPU", file=sys.stderr)
        return 2
    sizes = replace(Sizes(), repeats=options.repeats)
    measured = measure(options.model, options.pool, sizes)
    options.out.write_text(json.dumps(measured, indent=2))
    return 0 if passed(measured) else 1


def measure(model: Path, pool: Path, sizes: Sizes) -> dict[str, Any]:
    """Every part, by name."""
    parts: dict[str, Callable[[], Any]] = {
        "machine": machine,
        "gpu": lambda: gpu_facts(sizes.device),
        "agreement": lambda: list(agreements(model, pool, sizes)),
        "repeatable": lambda: repeatable(model, pool, sizes),
        "graph": lambda: replayed(model, pool, sizes),
        "operators": lambda: list(operators(model, pool, sizes)),
        "throughput": lambda: list(throughputs(model, pool, sizes)),
        "profile": lambda: profile(model, pool, sizes),
    }
    measured = {}
    for name, part in parts.items():
        print(f"{name} ...", flush=True)
        try:
            measured[name] = part()
        except Exception as error:
            traceback.print_exc()
            measured[name] = {"error": f"{type(error).__name__}: {error}"}
    return measured


def passed(measured: dict[str, Any]) -> bool:
    """Whether no part failed, and every result that was judged is right."""
    if any(isinstance(part, dict) and "error" in part for part in measured.values()):
        return False
    judged = [*measured["agreement"], measured["repeatable"], measured["graph"]]
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
        "torch_cuda": torch.version.cuda,
        "nvcc": build["cuda_version"],
        "architectures": build["cuda_architectures"],
    }


def scorer_on(
    device: str, model: Path, *, deep: str | None = None, precision: str = "float32"
) -> Scorer:
    """Of a model file, or of a preset with random weights over its classes."""
    trained = Scorer.from_checkpoint(model, device=device, precision=precision)
    if deep is None:
        return trained
    torch.manual_seed(0)
    return Scorer(
        DeepSpeech2(preset(deep)).eval().to(device),
        trained.classes.vocabulary,
        features=trained.features,
        precision=precision,
    )


def written_pool(pool: Path, folder: str, *, clips: int | None = None, repeats: int = 1) -> Path:
    """A manifest of the first ``clips`` utterances, over and over under names of their own."""
    utterances = read_manifest(pool)[:clips]
    path = Path(folder) / "pool.jsonl"
    with path.open("w") as lines:
        for number in range(repeats):
            for utterance in utterances:
                line = {
                    "audio_filepath": str(utterance.audio_path.resolve()),
                    "id": f"{utterance.id}/{number}",
                    "duration": utterance.duration_seconds,
                }
                lines.write(json.dumps(line) + "\n")
    return path


def scored(
    scorer: Scorer, pool: Path, *, clips: int | None = None, repeats: int = 1, **options: Any
) -> tuple[list[ScoreRecord], float]:
    """Records of a pool, from its audio files on, and the seconds they took."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = written_pool(pool, folder, clips=clips, repeats=repeats)
        start = time.perf_counter()
        records = list(scorer.score_manifest(manifest, **options))
        return records, time.perf_counter() - start


def agreements(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The GPU's records against the CPU's, in float32, float64 and with shorter products."""

    def records(device: str, dtype: str, clips: int, precision: str) -> list[ScoreRecord]:
        scorer = scorer_on(device, model, precision=precision)
        scorer.model.to(getattr(torch, dtype))
        return scored(scorer, pool, clips=clips, k=sizes.k, per_hypothesis=True)[0]

    for dtype, clips in (("float64", sizes.deep_clips), ("float32", sizes.clips)):
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


def batch_of_logits(scorer: Scorer, pool: Path, clips: int) -> tuple[Tensor, Tensor]:
    """Logits [N, T, C] of real speech, where the model is."""
    assert scorer.features is not None
    features = [load_spectrogram(u, scorer.features).features for u in read_manifest(pool)[:clips]]
    padded, lengths = pad_features(features)
    with torch.inference_mode():
        logits, lengths = scorer.model.eval()(padded.to(scorer.device), lengths.to(scorer.device))
    return logits.clone(), lengths.clone()


def replayed(model: Path, pool: Path, sizes: Sizes) -> dict[str, Any]:
    """Whether the fused operator can be captured in a CUDA graph, and replays to the same bits."""
    if sizes.device == "cpu":
        return {"holds": None}
    logits, lengths = batch_of_logits(scorer_on(sizes.device, model), pool, 8)

    def found() -> ops.NbestCotangents:
        return ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=sizes.k)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        found()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = found()
    logits.copy_(logits.flip(0))
    lengths.copy_(lengths.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    return {"holds": bool(torch.equal(captured.cotangents, found().cotangents))}


def seconds_of(work: Callable[[], object], device: str, rounds: int) -> float:
    """Median over rounds, after one that does not count."""
    seconds = []
    for _ in range(rounds + 1):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def synchronize(device: str) -> None:
    """Wait for the GPU, if there is one."""
    if device == "cuda":
        torch.cuda.synchronize()


def operators(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The CTC operators on one batch of real speech: results compared, then both timed."""
    on_cpu = batch_of_logits(scorer_on("cpu", model), pool, min(sizes.clips, 32))
    on_gpu = tuple(tensor.to(sizes.device) for tensor in on_cpu)
    log_probs = [logits.double().log_softmax(2) for logits, _ in (on_cpu, on_gpu)]
    hypotheses = ops.ctc_beam_search(log_probs[0], on_cpu[1], num_hypotheses=sizes.k)
    k = sizes.k
    works: dict[str, Callable[[int], list[Tensor]]] = {
        "ctc_beam_search": lambda i: of_search(
            ops.ctc_beam_search(log_probs[i], (on_cpu, on_gpu)[i][1], num_hypotheses=k)
        ),
        "ctc_sparse_occupancy": lambda i: list(
            ops.ctc_sparse_occupancy(
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
        cpu = seconds_of(lambda work=work: work(0), "cpu", 1)  # type: ignore[misc]
        gpu = seconds_of(lambda work=work: work(1), sizes.device, sizes.rounds)  # type: ignore[misc]
        yield {
            "what": name,
            "shape": list(on_cpu[0].shape),
            "largest_difference": largest,
            "holds": largest <= 1e-5,
            "cpu_seconds": cpu,
            "gpu_seconds": gpu,
            "times": cpu / gpu,
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


def throughputs(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Utterances a second, from audio files to records, of both models and all methods."""
    for deep in (None, sizes.deep):
        clips = sizes.deep_clips if deep else sizes.clips
        on_cpu = scorer_on("cpu", model, deep=deep)
        on_gpu = scorer_on(sizes.device, model, deep=deep)
        for method, options in METHODS.items():
            expected, cpu_seconds = scored(on_cpu, pool, clips=clips, k=sizes.k, **options)
            found, _ = scored(on_gpu, pool, clips=clips, k=sizes.k, **options)
            compared = agreement(found, expected, None) if found[0].hypotheses else None
            errors = [relative(f.egl, e.egl) for f, e in zip(found, expected, strict=True)]
            if sizes.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            records, seconds = scored(
                on_gpu, pool, repeats=1 if deep else sizes.repeats, k=sizes.k, **options
            )
            audio = sum(record.duration for record in records)
            cpu_rate = sum(record.duration for record in expected) / cpu_seconds
            yield {
                "model": f"{deep}, random" if deep else f"{model.name}",
                "method": method,
                "egl": max(errors),
                "agreement": compared,
                "utterances": len(records),
                "audio_seconds": audio,
                "seconds": seconds,
                "utterances_per_second": len(records) / seconds,
                "audio_per_second": audio / seconds,
                "cpu_audio_per_second": cpu_rate,
                "times": audio / seconds / cpu_rate,
                "peak_memory_bytes": torch.cuda.max_memory_allocated()
                if sizes.device == "cuda"
                else None,
            }


def profile(model: Path, pool: Path, sizes: Sizes) -> str:
    """Which kernels take the time of exact scoring."""
    scorer = scorer_on(sizes.device, model)
    scored(scorer, pool, clips=sizes.clips, k=sizes.k)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if sizes.device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiled:
        scored(scorer, pool, clips=sizes.clips, k=sizes.k)
    order = "self_cuda_time_total" if sizes.device == "cuda" else "self_cpu_time_total"
    return profiled.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=60)


if __name__ == "__main__":
    sys.exit(main())
