"""Search and occupancy against other libraries, one thread, as ratios within one run.

    pip install fast-ctc-decode flashlight-text
    python benchmarks/ctc_peers.py [--clips 8] [--frames 200] [--width 100]

Emissions are those of the shipped model on the sample's pool, clip after clip until there are
enough frames. Before anything is timed: cotangents equal those of F.ctc_loss in float64; the
search's best labeling is at least as probable as a peer's (fast-ctc-decode returns one), and over
all emissions it finds no less of the true best (of those that a beam of 4,000 finds) than
flashlight-text does. A peer that is not installed is reported as such.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from exact_vs_loop import ROOT, machine
from torch import Tensor

from egl_fast import Scorer, _extension, ops
from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import read_manifest

NUM_CLASSES = 29
OWN = "egl-fast"
ALPHABET = ["-", *(chr(ord("a") + n) for n in range(NUM_CLASSES - 1))]


def main() -> int:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clips", type=int, default=8, help="emissions, each begun by another clip"
    )
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--width", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recalls: dict[str, list[float]] = {}
    failed = False
    for logits in emissions(arguments.clips, arguments.frames):
        failed |= not occupancy(logits)
        failed |= not search(logits.log_softmax(2), arguments.width, recalls)
    large_vocabulary(logits, arguments.width)
    means = {name: statistics.mean(shares) for name, shares in recalls.items()}
    failed |= means[OWN] < means.get("flashlight-text", 0.0)
    for name, mean in means.items():
        print(f"recall of the best {arguments.width}, {name}: {mean:.1%}")
    print(json.dumps({**machine(), "instruction_set": _extension.build_info()["instruction_set"]}))
    return int(failed)


def emissions(count: int, num_frames: int) -> Iterator[Tensor]:
    """[1, T, C] logits on real speech."""
    scorer = Scorer.from_checkpoint(ROOT / "examples" / "base.pt")
    assert scorer.features is not None
    pool = read_manifest(ROOT / "examples" / "pool.jsonl")
    for start in range(0, len(pool), max(1, len(pool) // count))[:count]:
        parts: list[Tensor] = []
        while sum(map(len, parts)) < num_frames:
            utterance = pool[(start + len(parts)) % len(pool)]
            features = load_spectrogram(utterance, scorer.features).features
            with torch.no_grad():
                logits, _ = scorer.model(features[None], torch.tensor([len(features)]))
            parts.append(logits[0])
        yield torch.cat(parts)[None, :num_frames]


def occupancy(logits: Tensor, *, num_labels: int = 30, num_hypotheses: int = 100) -> bool:
    """Cotangents of 100 random labelings against F.ctc_loss, forward and backward."""
    generator = torch.Generator().manual_seed(1)
    shape = (num_hypotheses, num_labels)
    labels = torch.randint(1, NUM_CLASSES, shape, generator=generator)
    hypotheses = ops.Hypotheses.of([labels.tolist()])
    lengths = torch.tensor([logits.shape[1]])

    def ours() -> Tensor:
        return ops.ctc_logits_cotangents(logits, lengths, hypotheses)[1][0]

    def torch_loss(dtype: torch.dtype = torch.float32) -> Tensor:
        many = logits.to(dtype).expand(num_hypotheses, -1, -1).clone().requires_grad_()
        loss = F.ctc_loss(
            many.log_softmax(2).transpose(0, 1),
            labels,
            torch.full((num_hypotheses,), logits.shape[1]),
            torch.full((num_hypotheses,), num_labels),
            reduction="sum",
        )
        [gradient] = torch.autograd.grad(loss, many)
        return gradient

    # float32's rounding of numbers below 1, once.
    if (ours() - torch_loss(torch.float64)).abs().max() > 2**-24:
        print("  occupancy: DIFFERS from F.ctc_loss")
        return False
    seconds = milliseconds(ours), milliseconds(torch_loss)
    return say("occupancy and cotangents", seconds[0], {"F.ctc_loss": (seconds[1], 15.0)})


def search(log_probs: Tensor, width: int, recalls: dict[str, list[float]]) -> bool:
    """The K best labelings, K = width."""
    lengths = torch.tensor([log_probs.shape[1]])
    best = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=width, beam_width=4000)
    truth = set(best.labelings(0))

    def ours() -> ops.Hypotheses:
        return ops.ctc_beam_search(log_probs, lengths, num_hypotheses=width, beam_width=width)

    found = ours()
    recalls.setdefault(OWN, []).append(len(truth & set(found.labelings(0))) / len(truth))
    own_log_prob = float(found.log_prob[0, 0])
    peers: dict[str, tuple[float, float]] = {}
    good = True
    if installed("flashlight", "flashlight-text"):
        decode = flashlight(log_probs, width)
        recalls.setdefault("flashlight-text", []).append(len(truth & decode()) / len(truth))
        peers["flashlight-text"] = milliseconds(decode), 20.0
    if installed("fast_ctc_decode", "fast-ctc-decode"):
        import fast_ctc_decode

        probs = log_probs[0].exp().numpy()

        def decode_one() -> str:
            text: str = fast_ctc_decode.beam_search(
                probs, "".join(ALPHABET), beam_size=width, beam_cut_threshold=0.0
            )[0]
            return text

        labels = [ALPHABET.index(letter) for letter in decode_one()]
        [[log_prob]] = ops.ctc_occupancy(log_probs, lengths, ops.Hypotheses.of([[labels]]))[0]
        good &= own_log_prob >= float(log_prob) - 1e-6
        peers["fast-ctc-decode"] = milliseconds(decode_one), 8.0
    return say("search", milliseconds(ours), peers) and good


def large_vocabulary(logits: Tensor, width: int) -> None:
    """The same search among many more classes, none of them likely."""
    generator = torch.Generator().manual_seed(2)
    lengths = torch.tensor([logits.shape[1]])
    for num_classes in (NUM_CLASSES, 1000, 5000):
        others = torch.randn(1, logits.shape[1], num_classes - NUM_CLASSES, generator=generator)
        log_probs = torch.cat([logits, others - 20], dim=2).log_softmax(2)
        spent = milliseconds(
            lambda log_probs=log_probs: ops.ctc_beam_search(  # type: ignore[misc]
                log_probs, lengths, num_hypotheses=width, beam_width=width
            )
        )
        looked_at = milliseconds(lambda log_probs=log_probs: log_probs.double().exp())  # type: ignore[misc]
        print(
            f"search among {num_classes} classes: {spent:.2f} ms; torch's exponential of them all, "
            f"in double: {looked_at:.2f} ms"
        )


def flashlight(log_probs: Tensor, width: int) -> Callable[[], set[tuple[int, ...]]]:
    """flashlight-text's lexicon-free decoder without a language model."""
    from flashlight.lib.text import decoder

    options = decoder.LexiconFreeDecoderOptions(
        beam_size=width,
        beam_size_token=NUM_CLASSES,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )
    own = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), -1, 0, [])
    emissions = log_probs[0].contiguous().numpy()

    def decode() -> set[tuple[int, ...]]:
        found: list[Any] = own.decode(emissions.ctypes.data, *emissions.shape)
        return {tuple(label for label, _ in groupby(one.tokens) if label > 0) for one in found}

    return decode


def installed(module: str, package: str) -> bool:
    """Whether a package can be used; says so where it cannot."""
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"  {package} is not installed: not compared")
    return False


def say(what: str, own_ms: float, peers: dict[str, tuple[float, float]]) -> bool:
    """Print the ratios; whether they are what must hold."""
    parts = [
        f"{name} {spent:.1f} ms, {spent / own_ms:.0f} times (at least {least:g})"
        for name, (spent, least) in peers.items()
    ]
    print(f"  {what}: {own_ms:.2f} ms; {'; '.join(parts)}")
    return all(spent / own_ms >= least for spent, least in peers.values())


def milliseconds(work: Callable[[], object], repetitions: int = 7) -> float:
    """Median."""
    work()
    spent = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent) * 1e3


if __name__ == "__main__":
    sys.exit(main())
