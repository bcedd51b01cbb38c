"""Kernels and the whole pipeline on a GPU: python benchmarks/gpu_timings.py --out FILE

What is short is timed in interleaved rounds after two warm-ups; the machine's own rates stand
beside. gpu_report.py runs this as a step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gpu_workloads import Parts, Wav2Vec2Shape, Workload, has_errors, run
from torch import Tensor

from egl_fast import Scorer, ops
from egl_fast.benchmarking.comparison import METHODS
from egl_fast.benchmarking.interleaved import Work, seconds_of, time_interleaved
from egl_fast.compute.precision import matmul_precision
from egl_fast.methods.exact import SPAN

Rows = Iterator[dict[str, Any]]

TIMED = {name: METHODS[name] for name in ("exact", "lowrank --tolerance 0.1", "probe --probes 4")}
TIMED["exact --full"] = {"method": "exact", "full": True}


def parts(work: Workload) -> Parts:
    """By name, in order."""
    return {
        "ceilings": lambda: ceilings(work),
        "operators": lambda: operators(work),
        "recurrent": lambda: recurrent(work),
        "throughput": lambda: throughputs(work),
        "bench": lambda: bench(work),
        "profile, shipped model": lambda: profile(work),
        "profile, deep": lambda: profile(work, deep=True),
        "wav2vec 2.0 base": lambda: foreign(work),
    }


def timed(works: dict[str, Work], work: Workload) -> dict[str, dict[str, float]]:
    """Median and quartiles of each."""
    device = torch.device(work.device)
    return time_interleaved(works, rounds=work.rounds, warm_ups=2, device=device).summary()


def ceilings(work: Workload) -> Rows:
    """What the machine does at its best: bytes, multiply-adds, and launches per second."""
    size, device = work.matrix, torch.device(work.device)
    source = torch.randn(size * size * 8, device=device)
    target = torch.empty_like(source)

    def product(operands: list[Tensor], precision: str) -> None:
        with matmul_precision(precision, device):
            torch.mm(*operands)

    works: dict[str, Work] = {"bytes copied": lambda: target.copy_(source)}
    amounts = {"bytes copied": 2 * source.nbytes}
    for what, dtype in (
        ("float32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("float64", torch.float64),
    ):
        operands = [torch.randn(size, size, device=device, dtype=dtype) for _ in range(2)]
        precision = "tf32" if what == "tf32" else "float32"
        works[f"multiply-adds, {what}"] = partial(product, operands, precision)
        amounts[f"multiply-adds, {what}"] = size**3
    small = torch.zeros(64, 64, device=device)
    out = torch.zeros_like(small)
    works["launches"] = lambda: [torch.mm(small, small, out=out) for _ in range(1000)]
    amounts["launches"] = 1000
    for what, found in timed(works, work).items():
        yield {"what": what, **found, "rate": amounts[what] / found["median_s"]}


def operators(work: Workload) -> Rows:
    """The CTC operators on one batch of real speech; torch's loss and torchaudio's search."""
    logits, lengths = work.logits(work.scorer(), work.batch)
    log_probs = logits.double().log_softmax(2)
    k = work.k
    hypotheses = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k)
    search = partial(ops.ctc_beam_search, log_probs, lengths, num_hypotheses=k)
    fused = partial(
        ops.ctc_nbest_cotangents, logits, lengths, num_hypotheses=k, keys=torch.zeros_like(lengths)
    )
    works: dict[str, Work] = {
        "ctc_beam_search, width default": search,
        "ctc_beam_search, width 100": partial(search, beam_width=100),
        "ctc_logits_cotangents": lambda: ops.ctc_logits_cotangents(log_probs, lengths, hypotheses),
        "ctc_nbest_cotangents, all": fused,
        "ctc_nbest_cotangents, their span": partial(fused, span=SPAN),
        "ctc_nbest_cotangents, lowrank": partial(fused, tolerance=0.1),
        "ctc_nbest_cotangents, probe": partial(fused, probes=4),
        "F.ctc_loss, forward and backward": lambda: ctc_losses(logits, lengths, hypotheses),
    }
    shape = str(list(logits.shape))
    for what, found in timed(works, work).items():
        yield {"what": what, "shape": shape, **found}
    for row in torchaudio_search(log_probs, lengths, work):
        yield {**row, "shape": shape}


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


#: Run in its own process: at a beam wider than its classes, the decoder has killed it.
TORCHAUDIO = """
import json, sys, torch
from torchaudio.models.decoder import cuda_ctc_decoder
from egl_fast.benchmarking.interleaved import time_interleaved
log_probs, lengths = (tensor.cuda() for tensor in torch.load(sys.argv[1]))
width, rounds = map(int, sys.argv[2:])
tokens = ["-", *(chr(ord("a") + n) for n in range(log_probs.shape[2] - 1))]
decoder = cuda_ctc_decoder(tokens, nbest=width, beam_size=width)
works = {"decoder": lambda: decoder(log_probs, lengths)}
timings = time_interleaved(works, rounds=rounds, warm_ups=2, device=log_probs.device)
print(json.dumps(timings.summary()["decoder"]))
"""


def torchaudio_search(log_probs: Tensor, lengths: Tensor, work: Workload) -> Rows:
    """torchaudio's CUDA decoder, if this torchaudio still has one."""
    with tempfile.TemporaryDirectory() as folder:
        emissions = Path(folder) / "emissions.pt"
        torch.save((log_probs.float().cpu(), lengths.to("cpu", torch.int32)), emissions)
        for width in (100, 20):
            done = subprocess.run(
                [sys.executable, "-c", TORCHAUDIO, emissions, str(width), str(work.rounds)],
                capture_output=True,
                text=True,
            )
            failed = {"remark": done.stderr.strip()[-120:]}
            found = failed if done.returncode else json.loads(done.stdout)
            yield {"what": f"torchaudio's CUDA decoder, width {width}", **found}


def recurrent(work: Workload) -> Rows:
    """One direction of a GRU, forward and backward, by number of rows."""
    frames, hidden = (100, 512) if work.device == "cuda" else (5, 8)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=work.device) / 20

    works: dict[tuple[str, int], Work] = {}
    for count in (8, 32, 128):
        scan = ops.RecurrentScan(
            normal(frames, count, 3 * hidden), normal(3 * hidden, hidden), normal(3 * hidden),
            normal(count, hidden), None,
        )  # fmt: skip
        for what, precise in (("float", False), ("double", True)):
            works[f"forward, states in {what}", count] = partial(
                ops.recurrent_forward, "gru", [scan], precise=precise
            )
    utterances = 4
    for rows in (64, 256, 1024, 2048, 4096, 8192):
        works["backward", rows] = partial(
            ops.recurrent_backward,
            "gru",
            normal(frames, max(1, rows // utterances), utterances, hidden),
            normal(frames, utterances, 5, hidden),
            normal(3 * hidden, hidden),
            reverse=False,
        )
    for (what, rows), pass_over in works.items():
        [found] = timed({what: pass_over}, work).values()
        yield {
            "what": what,
            "rows": rows,
            **found,
            "seconds_per_frame": found["median_s"] / frames,
            "multiply_adds_per_second": frames * rows * 3 * hidden * hidden / found["median_s"],
        }


def throughputs(work: Workload) -> Rows:
    """From audio files to records, of both models and all methods."""
    on_gpu = work.device == "cuda"
    for deep in (False, True):
        scorer = work.scorer(deep=deep)
        repeats = work.deep_repeats if deep else work.repeats
        for method, options in TIMED.items():
            work.score(scorer, recordings=16, **options)  # warms up
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            records, seconds = work.score(scorer, repeats=repeats, **options)
            audio = sum(record.duration for record in records)
            yield {
                "model": f"{work.deep}, random" if deep else work.model.name,
                "method": method,
                "utterances": len(records),
                "seconds": seconds,
                "utterances_per_second": len(records) / seconds,
                "times_real_time": audio / seconds,
                "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
            }


def bench(work: Workload) -> dict[str, Any]:
    """What ``egl-fast bench`` says: all methods against the plain loop and one inference pass."""
    command = [sys.executable, "-m", "egl_fast", "bench", "--model", str(work.model)]
    command += ["--pool", str(work.pool), "--k", str(work.k), "--device", work.device, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def profile(work: Workload, *, deep: bool = False) -> Rows:
    """What takes the time of exact scoring: kernels on the GPU, then calls on the host."""
    scorer = work.scorer(deep=deep)
    recordings = 32 if deep else 64
    work.score(scorer, recordings=recordings)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if work.device == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profiled:
        _, seconds = work.score(scorer, recordings=recordings)
    yield {
        "what": f"all of {recordings} recordings, under the profiler",
        "milliseconds": 1e3 * seconds,
    }
    averages = profiled.key_averages()
    kernels = [one for one in averages if one.device_type != torch.autograd.DeviceType.CPU]
    yield {
        "what": "all kernels",
        "milliseconds": sum(one.self_device_time_total for one in kernels) / 1e3,
        "calls": sum(one.count for one in kernels),
    }
    for one in sorted(kernels, key=lambda one: -one.self_device_time_total)[:20]:
        milliseconds = one.self_device_time_total / 1e3
        yield {"what": one.key[:90], "milliseconds": milliseconds, "calls": one.count}
    for one in sorted(averages, key=lambda one: -one.self_cpu_time_total)[:15]:
        milliseconds = one.self_cpu_time_total / 1e3
        yield {"what": f"host: {one.key[:80]}", "milliseconds": milliseconds, "calls": one.count}


def foreign(work: Workload) -> Rows:
    """A transformer of the shape of wav2vec 2.0 base, random weights, 5 s of noise."""
    device = torch.device(work.device)
    seconds, count = (5.0, 4) if work.device == "cuda" else (0.5, 1)
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model = Wav2Vec2Shape(attention, small=work.device == "cpu").eval().to(device)
        scorer = Scorer(model, ["<pad>", *map(chr, range(97, 97 + 31))])
        inputs = torch.randn(count, int(16000 * seconds), device=device)
        lengths = torch.full((count,), inputs.shape[1])
        for method, options in TIMED.items():
            run = partial(scorer.score_batch, inputs, lengths, k=work.k, **options)
            run()  # warms up
            rate = count / seconds_of(run, device)
            yield {"attention": attention, "method": method, "utterances_per_second": rate}
        infer = torch.inference_mode()(partial(model, inputs, lengths))
        rate = count / timed({"inference": infer}, work)["inference"]["median_s"]
        yield {"attention": attention, "method": "inference", "utterances_per_second": rate}


if __name__ == "__main__":
    sys.exit(run(__doc__, parts, has_errors))
