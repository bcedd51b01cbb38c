"""Squared norms of R cotangents, as a share of the machine's rate over counted operations.

The forward pass is not timed. The rate is that of a large matrix product by MKL or oneDNN,
whichever is faster in the same round (``LargeProduct``); ``operation_count`` says what is counted.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import workloads
from entry import OWN, Entry
from settings import Settings
from torch import Tensor, nn

from egl_fast.benchmarking import operation_count
from egl_fast.benchmarking.interleaved import time_interleaved
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.gradients.tape import Tape

#: Of float64 (DESIGN.md, section 5).
PROMISED = 1e-4

#: Multiply-adds per second that decide how many rounds there is time for, and nothing else.
EXPECTED_RATE = 5e10

#: What takes longer is warm after the first of its many passes.
LONG_SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """One measurement: ``small`` is the shipped model, ``deep`` has seven layers of 512."""

    model: str
    seconds: float
    rows: int
    threads: int

    def __str__(self) -> str:
        return f"{self.model}-{self.seconds:g}s-R{self.rows}-{self.threads}t"


def by_rows(settings: Settings) -> list[Case]:
    """2 s of audio, on every number of threads."""
    return [
        Case(model, 2.0, rows, count)
        for model in ("small", "deep")
        for count in settings.threads
        for rows in settings.rows
        if count > 1 or rows <= settings.most_rows_alone
    ]


def by_length(settings: Settings) -> list[Case]:
    """Audio of several lengths, on all threads."""
    return [
        Case(model, seconds, settings.rows_by_length, max(settings.threads))
        for model in ("small", "deep")
        for seconds in settings.seconds
    ]


CASES: dict[str, Callable[[Settings], list[Case]]] = {
    "test_rows": by_rows,
    "test_lengths": by_length,
}


def test_rows(entry: Entry, settings: Settings, model_file: Path, case: Case) -> None:
    share = measure("engine by rows", entry, settings, model_file, case)
    if case.threads == max(settings.threads) and case.rows in (4, 16):
        entry.figure(f"engine_{case.rows}_{case.model}", share)


def test_lengths(entry: Entry, settings: Settings, model_file: Path, case: Case) -> None:
    measure("engine by length", entry, settings, model_file, case)


@lru_cache(maxsize=1)  # consecutive cases share a tape; there is room for only one of 30 s
def recorded(
    model: str, seconds: float, settings: Settings, model_file: Path
) -> tuple[GradientEngine, Tape, tuple[Tensor, Tensor]]:
    """An engine, a forward pass, and its inputs."""
    trained = workloads.trained_scorer(model_file)
    assert trained.features is not None
    scorer = trained if model == "small" else workloads.random_scorer(settings.deep, model_file)
    inputs = workloads.noise(seconds, trained.features)
    engine = GradientEngine(scorer.model)
    return engine, engine.run(*inputs), inputs


def measure(group: str, entry: Entry, settings: Settings, model_file: Path, case: Case) -> float:
    """Time a case, and return its share of the machine's rate."""
    engine, tape, inputs = recorded(case.model, case.seconds, settings, model_file)
    logits = tape.outputs[0]
    generator = torch.Generator().manual_seed(3)
    cotangents = torch.randn(1, case.rows, *logits.shape[1:], generator=generator)
    counts = operation_count.count(engine.model, ModelInputs(inputs), num_cotangents=case.rows)
    multiply_adds = case.rows * operation_count.total(counts)
    expected_seconds = multiply_adds / EXPECTED_RATE
    product = LargeProduct()
    with workloads.threads(case.threads):
        compare_with_autograd(engine, tape, inputs, cotangents[:, :1])
        timings = time_interleaved(
            {OWN: lambda: engine.sq_norms(tape, cotangents), **product.works},
            rounds=max(1, min(settings.rounds, round(settings.engine_seconds / expected_seconds))),
            warm_ups=int(expected_seconds < LONG_SECONDS),
        )
    rates = product.rates(timings)
    share = statistics.median(
        multiply_adds / seconds / rate for seconds, rate in zip(timings[OWN], rates, strict=True)
    )
    entry.keep(
        group,
        timings,
        model=case.model,
        seconds=case.seconds,
        rows=case.rows,
        threads=case.threads,
        multiply_adds=multiply_adds,
        rate=statistics.median(rates),
        share=share,
    )
    milliseconds = statistics.median(timings[OWN]) / case.rows * 1e3
    entry.say(
        f"{milliseconds:.1f} ms per cotangent of {2e-9 * multiply_adds / case.rows:.2f} GFLOP, "
        f"{share:.0%} of {2e-9 * statistics.median(rates):.0f} GFLOP/s"
    )
    return share


def compare_with_autograd(
    engine: GradientEngine, tape: Tape, inputs: tuple[Tensor, Tensor], cotangents: Tensor
) -> None:
    """Check norms against torch's own backward pass in float64.

    In float32, that pass itself is off by 1% on 30 s of noise.
    """
    by_parameter = engine.sq_norms(tape, cotangents)
    ours = torch.stack(list(by_parameter.values())).sum(0)[0]
    precise = copy.deepcopy(engine.model).double()
    expected = torch.stack([plain_sq_norm(precise, inputs, c) for c in cotangents[0]])
    assert ((ours - expected).abs() <= PROMISED * expected).all(), (ours, expected)


def plain_sq_norm(model: nn.Module, inputs: tuple[Tensor, Tensor], cotangent: Tensor) -> Tensor:
    """Squared norm of the whole gradient under one cotangent [T, C]."""
    logits = model(inputs[0].double(), inputs[1])[0]
    gradients = torch.autograd.grad(
        logits, list(model.parameters()), cotangent.double().unsqueeze(0)
    )
    return torch.stack([gradient.square().sum() for gradient in gradients]).sum()
