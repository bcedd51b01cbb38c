"""What an H100 could do at best, on paper: python benchmarks/roofline.py

Multiply-adds of the backward passes, counted layer by layer from shapes (operation_count in
egl_fast/benchmarking), bytes of the CTC kernels as their headers in csrc/cuda count them, and
launches of the recurrent scans, each over the rate in NVIDIA's data sheet for the H100 SXM. Nothing
here was measured on a GPU: real kernels reach only part of these rates, and plans must allow for
that.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import nn

from egl_fast.benchmarking.operation_count import count, total
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.model import PRESETS, DeepSpeech2

FLOAT32 = 67e12 / 2  # multiply-adds per second, without tensor cores
TF32 = 495e12 / 2  # with them, dense
BFLOAT16 = 989e12 / 2
BYTES = 3.35e12  # per second
LAUNCH = 5e-6  # seconds from one dependent kernel to the next: an estimate
SEARCH_FRAME = 10e-6  # seconds per frame of the search, estimated: csrc/cuda/ctc_prefix_search.h

K = 100
LABELS_PER_SECOND = 14  # characters of read English speech
FRAMES_PER_SECOND = 50  # after the convolutions
ROWS_AT_ONCE = 1600  # cotangents pulled back together: 16 utterances of K
CLASSES = 29


@dataclass(frozen=True)
class Estimate:
    """Seconds that an H100 needs for one utterance at best, by what takes them."""

    products_float32: float
    products_tf32: float
    products_bfloat16: float
    scans: float
    ctc: float
    search: float


def estimate(model: nn.Module, seconds: float, num_rows: int) -> Estimate:
    """For an utterance of ``seconds`` whose norms take ``num_rows`` cotangents."""
    frames = round(seconds * FRAMES_PER_SECOND)
    features = torch.zeros(1, 2 * frames, 161)
    inputs = ModelInputs((features, torch.tensor([2 * frames])))
    counts = count(model, inputs, num_cotangents=num_rows)
    products = num_rows * total(counts)
    num_scans = sum(
        module.num_layers * (2 if module.bidirectional else 1)
        for module in model.modules()
        if isinstance(module, nn.RNNBase)
    )
    utterances_at_once = max(ROWS_AT_ONCE // num_rows, 1)
    # A product and a step for each frame, one after another, for all utterances that share them.
    scans = 2 * num_scans * frames * LAUNCH / utterances_at_once
    labels = seconds * LABELS_PER_SECOND
    ctc = K * (40 * frames * labels + 8 * frames * CLASSES) / BYTES
    search = frames * SEARCH_FRAME / 528  # blocks that run at once
    return Estimate(products / FLOAT32, products / TF32, products / BFLOAT16, scans, ctc, search)


def main() -> None:
    """Print a table for docs/cuda.md."""
    seconds = 5.0
    print(
        f"| model, rows | products float32 | TF32 | bf16 | scans | CTC | search | {seconds:g} s "
        "utterances per second, float32 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in ("small", "paper"):
        model = DeepSpeech2(PRESETS[name])
        for num_rows, what in ((K, "exact"), (30, "lowrank, about"), (8, "probe")):
            found = estimate(model, seconds, num_rows)
            at_best = 1 / (found.products_float32 + found.scans + found.ctc + found.search)
            cells = " | ".join(f"{1e3 * value:.3g} ms" for value in astuple(found))
            print(f"| {name}, {what} {num_rows} | {cells} | {at_best:.3g} |")


if __name__ == "__main__":
    main()
