"""What matrix products of reduced precision do to scores: TF32 and bf16, emulated.

Every product of a forward and a backward pass gets rounded operands, those of the recurrence
included; search, CTC, and inner products of gradients stay as they are. TF32 rounds operands to 10
bits of mantissa, here to nearest, because what tensor cores do to further bits is not documented.
Scores of the sample's pool are compared with those of float32.

    python benchmarks/precision.py --recordings 64 --k 100
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
from machine import machine
from script import options_of
from torch import Tensor

from egl_fast import Scorer, _extension
from egl_fast.compute.precision import RoundedProducts
from egl_fast.data.manifest import read_manifest
from egl_fast.evaluation.statistics.rank_correlation import spearman
from egl_fast.gradients import engine as engine_module
from egl_fast.reference.recurrent import recurrent_backward as backward_loop
from egl_fast.scorer import pool_scoring
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run.outcome import Outcome, in_order

CELLS = ("rnn", "gru", "lstm")
SCORES = ("egl", "egl_normalized", "beam_mass", "entropy")


def to_tf32(x: Tensor) -> Tensor:
    """Rounded to 10 bits of mantissa, ties to even."""
    bits = x.contiguous().view(torch.int32)
    odd = (bits >> 13) & 1
    return ((bits + 0xFFF + odd) & ~0x1FFF).view(torch.float32).view(x.shape)


class _Operators:
    """The native operators, except the backward recurrence: a Python loop in this mode."""

    def __init__(self, native: Any, mode: RoundedProducts) -> None:
        self._native = native
        self._mode = mode
        self.recurrent_backward = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def default(
        self,
        cell: int,
        cotangents: Tensor,
        coefficients: Tensor,
        weight_hh: Tensor,
        reverse: bool,
        final: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """See ``egl_fast.ops.recurrent_backward``."""
        with self._mode:
            gates, hidden, state, of_cell = backward_loop(
                CELLS[cell], cotangents, coefficients, weight_hh, reverse=reverse,
                final_cell_cotangents=final,
            )  # fmt: skip
        return gates, hidden, state, state.new_empty(0) if of_cell is None else of_cell


@contextmanager
def emulated(rounded: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Round the products of an engine of any precision except float32 while the context is open."""

    def matmul_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
        exact = precision == "float32" or rounded is None
        return nullcontext() if exact else RoundedProducts(rounded)

    with ExitStack() as stack:
        if rounded is not None:
            operators = _Operators(_extension.operators(), RoundedProducts(rounded))
            stack.enter_context(
                mock.patch.object(engine_module, "matmul_precision", matmul_precision)
            )
            stack.enter_context(mock.patch.object(_extension, "operators", return_value=operators))
        yield


def _scores_of(outcome: Outcome) -> dict[str, float]:
    if outcome.record is None:
        print(f"{outcome.utterance.id}: {outcome.result}")
        return dict.fromkeys(SCORES, math.nan)
    return {name: float(getattr(outcome.record, name)) for name in SCORES}


def main() -> None:
    """Print a table."""
    options = options_of(__doc__, recordings=64, k=100, threads=1).parse_args()
    torch.set_num_threads(options.threads)
    pool = read_manifest(options.pool)
    # Evenly over the pool, which is sorted by corpus.
    count = min(options.recordings, len(pool))
    chosen = [pool[i * len(pool) // count] for i in range(count)]
    scoring = ScoringOptions(k=options.k)
    scores: dict[str, list[dict[str, float]]] = {}
    for name, rounding in {"float32": None, "tf32": to_tf32, "bf16": Tensor.bfloat16}.items():
        scorer = Scorer.from_checkpoint(
            options.model, precision="float32" if rounding is None else "bf16"
        )
        with emulated(rounding):
            pool_of = pool_scoring(scorer, scoring, batch_seconds=8.0)
            scores[name] = [_scores_of(outcome) for outcome in in_order(pool_of.outcomes(chosen))]
    print(json.dumps(machine()))
    print(f"{count} recordings, k = {options.k}; relative errors against float32")
    print("products  score           median   90 %     largest  Spearman")
    for name in ("tf32", "bf16"):
        for key in SCORES:
            exact = np.array([row[key] for row in scores["float32"]])
            rounded = np.array([row[key] for row in scores[name]])
            known = np.isfinite(rounded)
            exact, rounded = exact[known], rounded[known]
            errors = sorted(abs(rounded / exact - 1))
            rank = spearman(np.stack([exact, rounded]), replicates=10).estimate[0, 1]
            print(
                f"{name:8}  {key:14}  {statistics.median(errors):.1e}  "
                f"{errors[math.ceil(0.9 * len(errors)) - 1]:.1e}  {errors[-1]:.1e}  {rank:.4f}"
            )


if __name__ == "__main__":
    main()
