"""Search and occupancy, one thread, against other libraries.

Emissions are those of the shipped model on real speech, clip after clip until there are enough
frames; a round goes through all of them. The truth about the best labelings is what a beam of
4,000 finds.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import speech
import torch
import torch.nn.functional as F
from contest import Contest, threads
from ctc_libraries import NUM_CLASSES, PACKAGES, SEARCHES
from torch import Tensor

from egl_fast import ops

TRUTH_WIDTH = 4000

#: The least that a selection of tokens can do: read every value once.
ONE_PASS = "torch's maximum over C = 1,000"

Labelings = Collection[tuple[int, ...]]

#: What speed and answers are called in ``must_hold``.
FIGURES = {
    "flashlight-text": ("search_flashlight", "recall_flashlight"),
    "fast-ctc-decode": ("search_fast_ctc_decode", "best_fast_ctc_decode"),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Peers have no threads for one utterance."""
    with threads(1):
        yield


@pytest.fixture
def logits(contest: Contest, model_file: Path, pool: Path) -> list[Tensor]:
    """[1, T, C] each."""
    scorer = speech.trained_scorer(model_file)
    sizes = contest.settings
    return speech.emissions(scorer, pool, count=sizes.emissions, num_frames=sizes.frames)


def search(log_probs: Tensor, k: int, *, width: int | None = None) -> ops.Hypotheses:
    """The k best labelings."""
    lengths = torch.tensor([log_probs.shape[1]])
    return ops.ctc_beam_search(log_probs, lengths, num_hypotheses=k, beam_width=width or k)


@pytest.mark.benchmark(group="ctc")
@pytest.mark.parametrize("library", SEARCHES)
def test_search(contest: Contest, logits: list[Tensor], library: str) -> None:
    k = contest.settings.k
    emissions = [one.log_softmax(2) for one in logits]
    module, install = PACKAGES[library]
    peers = {}
    if importlib.util.find_spec(module) is not None:
        decoders = [SEARCHES[library](one, k) for one in emissions]
        compare_answers(contest, library, emissions, [decode() for decode in decoders])
        peers[library] = lambda: [decode() for decode in decoders]
    else:
        contest.remark(f"{library} is not installed, so not compared ({install})")
    turns = contest.take_turns(
        lambda: [search(one, k) for one in emissions], peers, rounds=contest.settings.rounds
    )
    contest.note(
        title=f"search, T = {emissions[0].shape[1]}, C = {NUM_CLASSES}, width {k}",
        calls=len(emissions),
        peers=turns.summary(),
    )
    if peers:
        contest.figure(FIGURES[library][0], turns.times(library))
        contest.say(f"{turns.times(library):.1f} times {library}")


def compare_answers(
    contest: Contest, library: str, emissions: list[Tensor], theirs: Sequence[Labelings]
) -> None:
    """Check that our search finds no less of the truth than a library's."""
    k = contest.settings.k
    truths = [search(one, k, width=TRUTH_WIDTH).labelings(0) for one in emissions]
    if library == "fast-ctc-decode":
        truths = [truth[:1] for truth in truths]
    found = [search(one, k).labelings(0)[: len(truths[0])] for one in emissions]
    own, peer = recall(truths, found), recall(truths, theirs)
    contest.note(found=own, found_by_peer=peer)
    contest.figure(FIGURES[library][1], own - peer)
    contest.say(f"of the true best found: {own:.1%}, by {library} {peer:.1%}")


def recall(truths: Sequence[Labelings], found: Sequence[Labelings]) -> float:
    """The mean share of true labelings that were found."""
    shares = [
        len(set(truth) & set(some)) / len(truth) for truth, some in zip(truths, found, strict=True)
    ]
    return statistics.mean(shares)


@pytest.mark.benchmark(group="ctc")
def test_search_among_many_classes(contest: Contest, logits: list[Tensor]) -> None:
    k = contest.settings.k
    few = [one.log_softmax(2) for one in logits]
    generator = torch.Generator().manual_seed(2)
    many = {
        num_classes: [with_unlikely_classes(one, num_classes, generator) for one in logits]
        for num_classes in (1000, 5000)
    }
    for crowded in many.values():  # the best stay the best, in the company of the unlikely
        for one, other in zip(few, crowded, strict=True):
            assert search(one, k).labelings(0)[0] == search(other, k).labelings(0)[0]
    turns = contest.take_turns(
        lambda: [search(one, k) for one in few],
        {
            ONE_PASS: lambda: [one.amax(2) for one in many[1000]],
            **{
                f"C = {number:,}": partial(lambda some: [search(one, k) for one in some], crowded)
                for number, crowded in many.items()
            },
        },
        rounds=contest.settings.rounds,
    )
    contest.note(
        title=f"search, T = {few[0].shape[1]}, C = {NUM_CLASSES}, width {k}",
        calls=len(few),
        peers=turns.summary(),
    )
    # Whoever selects tokens looks at all of them once; what follows is to depend on few.
    after_selection = turns.times("C = 1,000") - turns.times(ONE_PASS)
    contest.figure("search_vocabulary", after_selection)
    contest.say(
        f"C = 1,000 takes {turns.times('C = 1,000'):.2f} times the time of C = 29, "
        f"{after_selection:.2f} without one pass over all classes"
    )


def with_unlikely_classes(logits: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    """Log-probabilities over more classes, none of the new ones likely."""
    others = torch.randn(*logits.shape[:2], num_classes - logits.shape[2], generator=generator)
    return torch.cat([logits, others - 20], dim=2).log_softmax(2)


@pytest.mark.benchmark(group="ctc")
def test_occupancy(contest: Contest, logits: list[Tensor]) -> None:
    num_hypotheses, num_labels = contest.settings.k, 30
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

    for one in logits:  # float32's rounding of numbers below 1, once
        assert (ours(one) - torch_loss(one.double())).abs().max() <= 2**-24
    turns = contest.take_turns(
        lambda: [ours(one) for one in logits],
        {"F.ctc_loss, forward and backward": lambda: [torch_loss(one) for one in logits]},
        rounds=contest.settings.rounds,
    )
    times = turns.times("F.ctc_loss, forward and backward")
    contest.note(
        title=f"cotangents of {num_hypotheses} labelings, T = {num_frames}, U = {num_labels}",
        calls=len(logits),
        peers=turns.summary(),
    )
    contest.figure("occupancy", times)
    contest.say(f"{times:.1f} times F.ctc_loss")
