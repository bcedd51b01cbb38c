"""Kernels and the whole pipeline on a GPU: python benchmarks/gpu_timings.py --out FILE

Times are medians of CUDA events or, of the pipeline, of the wall clock, after a warm-up; a share is
what the hardware would take at its measured rates over what was taken. gpu_report.py runs this as
a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gpu_agreement import gpu_facts
from gpu_workloads import (
    EXAMPLES,
    Wav2Vec2Shape,
    batch_of_logits,
    has_errors,
    measure,
    scored,
    scorer_on,
)
from machine import machine
from torch import Tensor, nn

from egl_fast import Scorer, ops
from egl_fast.compute.precision import matmul_precision
from egl_fast.methods.exact import SPAN

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
        device: "cuda"; "cpu" rehearses.
        k: hypotheses.
        clips: recordings in a batch of the operators.
        repeats: of the pool, for throughput of the shipped model.
        deep: preset that stands for seven layers of 512.
        deep_repeats: of the pool, for that.
        rounds: of everything short.
        matrix: rows and columns of the products that show the machine's rate.
    """

    device: str = "cuda"
    k: int = 100
    clips: int = 32
    repeats: int = 10
    deep: str = "paper"
    deep_repeats: int = 1
    rounds: int = 10
    matrix: int = 8192


def main() -> int:
    """Measure; status 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--model", type=Path, default=EXAMPLES / "base.pt")
    parser.add_argument("--pool", type=Path, default=EXAMPLES / "pool.jsonl")
    parser.add_argument("--repeats", type=int, default=Sizes.repeats, help="of the pool")
    parser.add_argument("--parts", nargs="*", help="only these")
    options = parser.parse_args()
    sizes = Sizes(repeats=options.repeats)
    if not torch.cuda.is_available():
        sizes = Sizes("cpu", k=5, clips=2, repeats=1, deep="tiny", deep_repeats=1, matrix=256)
    all_parts = parts(options.model, options.pool, sizes)
    chosen = {name: all_parts[name] for name in options.parts or all_parts}
    return 1 if has_errors(measure(chosen, options.out)) else 0


def parts(model: Path, pool: Path, sizes: Sizes) -> dict[str, Callable[[], Any]]:
    """By name, in order."""
    return {
        "machine": machine,
        "gpu": lambda: gpu_facts(sizes.device),
        "ceilings": lambda: ceilings(sizes),
        "operators": lambda: operators(model, pool, sizes),
        "recurrent": lambda: recurrent(sizes),
        "throughput": lambda: throughputs(model, pool, sizes),
        "bench": lambda: bench(model, pool, sizes),
        "profile, shipped model": lambda: profile(model, pool, sizes),
        "profile, deep": lambda: profile(model, pool, sizes, deep=sizes.deep),
        "wav2vec 2.0 base": lambda: foreign(sizes),
    }


def seconds_of(work: Callable[[], object], sizes: Sizes) -> float:
    """Median over rounds, after two that do not count."""
    seconds = []
    for _ in range(sizes.rounds + 2):
        if sizes.device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[2:])


def ceilings(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """What the machine does at its best: bytes and multiply-adds a second, seconds a launch."""
    size = sizes.matrix
    source = torch.randn(size * size * 8, device=sizes.device)
    target = torch.empty_like(source)
    took = seconds_of(lambda: target.copy_(source), sizes)
    yield {"what": "bytes copied", "rate": 2 * source.nbytes / took}
    for what, dtype, allow in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
        ("float64", torch.float64, False),
    ):
        left, right = (torch.randn(size, size, device=sizes.device, dtype=dtype) for _ in range(2))
        with matmul_precision("tf32" if allow else "float32", torch.device(sizes.device)):
            took = seconds_of(partial(torch.mm, left, right), sizes)
        yield {"what": f"multiply-adds, {what}", "rate": size**3 / took}
    small = torch.zeros(64, 64, device=sizes.device)
    out = torch.zeros_like(small)

    def launches() -> None:
        for _ in range(1000):
            torch.mm(small, small, out=out)

    yield {"what": "launches", "rate": 1000 / seconds_of(launches, sizes)}


def operators(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """The CTC operators on one batch of real speech; torch's loss and torchaudio's search."""
    logits, lengths = batch_of_logits(scorer_on(sizes.device, model), pool, sizes.clips)
    log_probs = logits.double().log_softmax(2)
    hypotheses = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=sizes.k)
    k = sizes.k
    works: dict[str, Callable[[], object]] = {}
    for width in (None, 100):
        works[f"ctc_beam_search, width {width or 'default'}"] = lambda width=width: (
            ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k, beam_width=width)
        )
    works["ctc_logits_cotangents"] = lambda: ops.ctc_logits_cotangents(
        log_probs, lengths, hypotheses
    )
    options: dict[str, dict[str, Any]] = {
        "all": {},
        "their span": {"span": SPAN},
        "lowrank": {"tolerance": 0.1},
        "probe": {"probes": 4},
    }
    for name, chosen in options.items():
        works[f"ctc_nbest_cotangents, {name}"] = lambda chosen=chosen: ops.ctc_nbest_cotangents(
            logits, lengths, num_hypotheses=k, keys=torch.zeros_like(lengths), **chosen
        )
    works["F.ctc_loss, forward and backward"] = lambda: ctc_losses(logits, lengths, hypotheses)
    for name, work in works.items():
        yield {"what": name, "shape": str(list(logits.shape)), "seconds": seconds_of(work, sizes)}
    yield from torchaudio_search(log_probs, lengths, sizes)


def ctc_losses(logits: Tensor, lengths: Tensor, hypotheses: ops.Hypotheses) -> Tensor:
    """Gradients of torch's loss for all K labelings of all utterances at once."""
    n, k = hypotheses.labels.shape[:2]
    repeated = logits.detach().repeat_interleave(k, 0).requires_grad_()
    loss = F.ctc_loss(
        repeated.log_softmax(2).transpose(0, 1),
        hypotheses.labels.reshape(n * k, -1).clamp(min=1),
        lengths.repeat_interleave(k),
        hypotheses.label_lengths.reshape(n * k).clamp(min=0),
        reduction="sum",
        zero_infinity=True,
    )
    return torch.autograd.grad(loss, repeated)[0]


#: Run in a process of its own: at a beam wider than its classes the decoder has killed it.
TORCHAUDIO = """
import statistics, sys, torch
from torchaudio.models.decoder import cuda_ctc_decoder
log_probs, lengths = (tensor.cuda() for tensor in torch.load(sys.argv[1]))
width, rounds = map(int, sys.argv[2:])
tokens = ["-", *(chr(ord("a") + n) for n in range(log_probs.shape[2] - 1))]
decoder = cuda_ctc_decoder(tokens, nbest=width, beam_size=width)
seconds = []
for _ in range(rounds + 2):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    decoder(log_probs, lengths)
    end.record()
    end.synchronize()
    seconds.append(start.elapsed_time(end) / 1e3)
print(statistics.median(seconds[2:]))
"""


def torchaudio_search(log_probs: Tensor, lengths: Tensor, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """torchaudio's CUDA decoder, if this torchaudio still has one."""
    with tempfile.TemporaryDirectory() as folder:
        emissions = Path(folder) / "emissions.pt"
        torch.save((log_probs.float().cpu(), lengths.to("cpu", torch.int32)), emissions)
        for width in (100, 20):
            done = subprocess.run(
                [sys.executable, "-c", TORCHAUDIO, emissions, str(width), str(sizes.rounds)],
                capture_output=True,
                text=True,
            )
            failed = done.returncode != 0
            yield {
                "what": f"torchaudio's CUDA decoder, width {width}",
                "shape": str(list(log_probs.shape)),
                "seconds": None if failed else float(done.stdout),
                "remark": done.stderr.strip()[-120:] if failed else None,
            }


def recurrent(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """One direction of a GRU: forward at 32 utterances, backward at several numbers of rows."""
    frames, hidden = 100, 512
    if sizes.device == "cpu":
        frames, hidden = 5, 8

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=sizes.device) / 20

    for count in (8, 32, 128):
        scan = ops.RecurrentScan(
            normal(frames, count, 3 * hidden), normal(3 * hidden, hidden), normal(3 * hidden),
            normal(count, hidden), None,
        )  # fmt: skip
        for precise in (False, True):
            took = seconds_of(partial(ops.recurrent_forward, "gru", [scan], precise=precise), sizes)
            yield {
                "what": f"forward, states in {'double' if precise else 'float'}",
                "rows": count,
                "seconds_a_frame": took / frames,
                "multiply_adds_a_second": frames * count * 3 * hidden * hidden / took,
            }
    utterances = 4
    for rows in (64, 256, 1024, 2048, 4096, 8192):
        cotangents = normal(frames, max(1, rows // utterances), utterances, hidden)
        coefficients = normal(frames, utterances, 5, hidden)
        weight = normal(3 * hidden, hidden)
        pull_back = partial(
            ops.recurrent_backward, "gru", cotangents, coefficients, weight, reverse=False
        )
        took = seconds_of(pull_back, sizes)
        yield {
            "what": "backward",
            "rows": rows,
            "seconds_a_frame": took / frames,
            "multiply_adds_a_second": frames * rows * 3 * hidden * hidden / took,
        }


def throughputs(model: Path, pool: Path, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """From audio files to records, of both models and all methods."""
    for deep in (None, sizes.deep):
        scorer = scorer_on(sizes.device, model, deep=deep)
        repeats = sizes.deep_repeats if deep else sizes.repeats
        for method, options in METHODS.items():
            scored(scorer, pool, clips=16, k=sizes.k, **options)
            if sizes.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            records, seconds = scored(scorer, pool, repeats=repeats, k=sizes.k, **options)
            audio = sum(record.duration for record in records)
            yield {
                "model": f"{deep}, random" if deep else model.name,
                "method": method,
                "utterances": len(records),
                "seconds": seconds,
                "utterances_a_second": len(records) / seconds,
                "audio_a_second": audio / seconds,
                "peak_memory_bytes": torch.cuda.max_memory_allocated()
                if sizes.device == "cuda"
                else None,
            }


def bench(model: Path, pool: Path, sizes: Sizes) -> dict[str, Any]:
    """What ``egl-fast bench`` says: all methods against the plain loop and one inference pass."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "egl_fast", "bench", "--model", model, "--pool", pool),
            *("--k", str(sizes.k), "--device", sizes.device, "--json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def profile(
    model: Path, pool: Path, sizes: Sizes, deep: str | None = None
) -> Iterator[dict[str, Any]]:
    """What takes the time of exact scoring: kernels on the GPU, then calls on the host."""
    scorer = scorer_on(sizes.device, model, deep=deep)
    clips = 64 if deep is None else 32
    scored(scorer, pool, clips=clips, k=sizes.k)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if sizes.device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiled:
        _, seconds = scored(scorer, pool, clips=clips, k=sizes.k)
    yield {"what": f"all of {clips} recordings, under the profiler", "milliseconds": 1e3 * seconds}
    averages = profiled.key_averages()
    on_gpu = [one for one in averages if one.device_type != torch.autograd.DeviceType.CPU]
    yield {
        "what": "all kernels",
        "milliseconds": sum(one.self_device_time_total for one in on_gpu) / 1e3,
        "calls": sum(one.count for one in on_gpu),
    }
    for one in sorted(on_gpu, key=lambda one: -one.self_device_time_total)[:20]:
        yield {
            "what": one.key[:90],
            "milliseconds": one.self_device_time_total / 1e3,
            "calls": one.count,
        }
    for one in sorted(averages, key=lambda one: -one.self_cpu_time_total)[:15]:
        yield {
            "what": f"host: {one.key[:80]}",
            "milliseconds": one.self_cpu_time_total / 1e3,
            "calls": one.count,
        }


def foreign(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """A transformer of the shape of wav2vec 2.0 base, random weights, 5 s of noise."""
    seconds, count = (5.0, 4) if sizes.device == "cuda" else (0.5, 1)
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model: nn.Module = Wav2Vec2Shape(attention, small=sizes.device == "cpu")
        scorer = Scorer(model.eval().to(sizes.device), ["<pad>", *map(chr, range(97, 97 + 31))])
        inputs = torch.randn(count, int(16000 * seconds), device=sizes.device)
        lengths = torch.full((count,), inputs.shape[1])
        for method, options in METHODS.items():
            run = partial(scorer.score_batch, inputs, lengths, k=sizes.k, **options)
            run()
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            yield {
                "attention": attention,
                "method": method,
                "utterances_a_second": count / took,
            }

        yield {
            "attention": attention,
            "method": "inference",
            "utterances_a_second": count
            / seconds_of(torch.inference_mode()(partial(model, inputs, lengths)), sizes),
        }


if __name__ == "__main__":
    sys.exit(main())
