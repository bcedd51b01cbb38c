"""Search and occupancy, one thread, against other libraries.

Emissions are those of the shipped model on real speech, recordings joined until there are enough
frames; a round goes through all of them. The true best labelings are those that a beam of 4,000
finds.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import workloads
from ctc_libraries import NUM_CLASSES, PACKAGES, SEARCHES
from entry import OWN, Entry
from settings import Settings
from torch import Tensor

from egl_fast import ops
from egl_fast.benchmarking.interleaved import Work, time_interleaved

TRUTH_WIDTH = 4000

#: The least that selecting classes can do: read every value once.
ONE_PASS = "torch's maximum over C = 1,000"

TORCH_LOSS = "F.ctc_loss, forward and backward"

Labelings = Collection[tuple[int, ...]]

#: What speed and answers are called in ``must_hold``.
FIGURES = {
    "flashlight-text": ("search_flashlight", "recall_flashlight"),
    "fast-ctc-decode": ("search_fast_ctc_decode", "best_fast_ctc_decode"),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The others have no threads for one utterance."""
    with workloads.threads(1):
        yield


@pytest.fixture
def logits(settings: Settings, model_file: Path, pool: Path) -> list[Tensor]:
    """[1, T, C] each."""
    scorer = workloads.trained_scorer(model_file)
    return workloads.emissions(scorer, pool, count=settings.emissions, num_frames=settings.frames)


def search(log_probs: Tensor, k: int, *, width: int | None = None) -> ops.Hypotheses:
    """The k best labelings."""
    lengths = torch.tensor([log_probs.shape[1]])
    return ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k, beam_width=width or k)


@pytest.mark.parametrize("library", SEARCHES)
def test_search(entry: Entry, settings: Settings, logits: list[Tensor], library: str) -> None:
    k = settings.k
    emissions = [one.log_softmax(2) for one in logits]
    module, install = PACKAGES[library]
    works: dict[str, Work] = {OWN: lambda: [search(one, k) for one in emissions]}
    if importlib.util.find_spec(module) is not None:
        decoders = [SEARCHES[library](one, k) for one in emissions]
        compare_answers(entry, library, emissions, [decode() for decode in decoders], k)
        works[library] = lambda: [decode() for decode in decoders]
    else:
        entry.remark(f"{library} is not installed, so not compared ({install})")
    timings = time_interleaved(works, rounds=settings.rounds)
    entry.keep(
        "ctc",
        timings,
        title=f"search, T = {emissions[0].shape[1]}, C = {NUM_CLASSES}, width {k}",
        calls=len(emissions),
    )
    if library in works:
        entry.figure(FIGURES[library][0], timings.ratio(library, OWN))


def compare_answers(
    entry: Entry, library: str, emissions: list[Tensor], theirs: Sequence[Labelings], k: int
) -> None:
    """Compare how much of the truth our search and a library's find."""
    truths = [search(one, k, width=TRUTH_WIDTH).labelings(0) for one in emissions]
    if library == "fast-ctc-decode":
        truths = [truth[:1] for truth in truths]
    found = [search(one, k).labelings(0)[: len(truths[0])] for one in emissions]
    ours, others = recall(truths, found), recall(truths, theirs)
    entry.facts |= {"found": ours, "found_by_other": others}
    entry.figure(FIGURES[library][1], ours - others)
    entry.say(f"true best labelings found: {ours:.1%}, by {library} {others:.1%}")


def recall(truths: Sequence[Labelings], found: Sequence[Labelings]) -> float:
    """The mean share of true labelings that were found."""
    shares = [
        len(set(truth) & set(some)) / len(truth) for truth, some in zip(truths, found, strict=True)
    ]
    return statistics.mean(shares)


def test_search_among_many_classes(entry: Entry, settings: Settings, logits: list[Tensor]) -> None:
    k = settings.k
    few = [one.log_softmax(2) for one in logits]
    generator = torch.Generator().manual_seed(2)
    many = {
        num_classes: [with_unlikely_classes(one, num_classes, generator) for one in logits]
        for num_classes in (1000, 5000)
    }
    for crowded in many.values():  # the best stay the best among the unlikely
        for one, other in zip(few, crowded, strict=True):
            assert search(one, k).labelings(0)[0] == search(other, k).labelings(0)[0]
    timings = time_interleaved(
        {
            OWN: lambda: [search(one, k) for one in few],
            ONE_PASS: lambda: [one.amax(2) for one in many[1000]],
            **{
                f"C = {number:,}": partial(lambda some: [search(one, k) for one in some], crowded)
                for number, crowded in many.items()
            },
        },
        rounds=settings.rounds,
    )
    entry.keep(
        "ctc",
        timings,
        title=f"search, T = {few[0].shape[1]}, C = {NUM_CLASSES}, width {k}",
        calls=len(few),
    )
    # Selecting classes takes a look at each of them; what follows must depend only on the few.
    entry.figure(
        "search_vocabulary", timings.ratio("C = 1,000", OWN) - timings.ratio(ONE_PASS, OWN)
    )


def with_unlikely_classes(logits: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Log-probabilities over more classes, with none of the new ones likely."""
    others = torch.randn(*logits.shape[:2], num_classes - logits.shape[2], generator=generator)
    return torch.cat([logits, others - 20], dim=2).log_softmax(2)


def test_occupancy(entry: Entry, settings: Settings, logits: list[Tensor]) -> None:
    num_hypotheses, num_labels = settings.k, 30
    num_frames = logits[0].shape[1]
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(1, NUM_CLASSES, (num_hypotheses, num_labels), generator=generator)
    hypotheses = ops.Hypotheses.of([labels.tolist()])
    lengths = torch.tensor([num_frames])

    def ours(one: Tensor) -> Tensor:
        return ops.ctc_logits_cotangents(one, lengths, hypotheses)[1][0]

    def torch_loss(one: Tensor) -> Tensor:
        many = one.expand(num_hypotheses, -1, -1).clone().requires_grad_()
        loss = F.ctc_loss(
            many.log_softmax(2).transpose(0, 1),
            labels,
            torch.full((num_hypotheses,), num_frames),
            torch.full((num_hypotheses,), num_labels),
            reduction="sum",
        )
        [gradient] = torch.autograd.grad(loss, many)
        return gradient

    for one in logits:  # rounded to float32 once, and below 1
        assert (ours(one) - torch_loss(one.double())).abs().max() <= 2**-24
    timings = time_interleaved(
        {
            OWN: lambda: [ours(one) for one in logits],
            TORCH_LOSS: lambda: [torch_loss(one) for one in logits],
        },
        rounds=settings.rounds,
    )
    entry.keep(
        "ctc",
        timings,
        title=f"cotangents of {num_hypotheses} labelings, T = {num_frames}, U = {num_labels}",
        calls=len(logits),
    )
    entry.figure("occupancy", timings.ratio(TORCH_LOSS, OWN))
