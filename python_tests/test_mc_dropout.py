"""Transcripts under dropout: against torch's own, and the same however they are computed."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recordings import shortest
from torch import Tensor, nn

from egl_fast import Scorer
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.errors import ModelError
from egl_fast.scoring.formula.dropout import edit_distance

OPTIONS: dict[str, Any] = {"k": 2, "method": "probe", "probes": 2}


@pytest.fixture
def scorer(examples: Path) -> Scorer:
    """The sample's model, with more dropout than it was trained with."""
    found = Scorer.from_checkpoint(examples / "base.pt")
    dropout_of(found).p = 0.3
    return found


def dropout_of(scorer: Scorer) -> nn.Dropout:
    """The only one that the built-in model has."""
    dropout = scorer.model.dropout
    assert isinstance(dropout, nn.Dropout)
    return dropout


def inputs_of(scorer: Scorer, examples: Path, count: int) -> tuple[Tensor, Tensor]:
    assert scorer.features is not None
    return pad_features(
        [load_spectrogram(u, scorer.features).features for u in shortest(examples, count)]
    )


def plain_distance(one: str, other: str) -> int:
    """Levenshtein's, by the textbook's table."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row, above = [i], row
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(st.text("ab ", max_size=8), st.text("ab ", max_size=8))
def test_a_distance_is_relative_to_the_longer_text(one: str, other: str) -> None:
    found = edit_distance(one, other)
    one, other = one.strip(), other.strip()
    expected = plain_distance(one, other) / max(1, len(one), len(other))
    assert found == pytest.approx(expected)


def test_recordings_of_the_sample_change_as_under_torchs_dropout(
    scorer: Scorer, examples: Path
) -> None:
    """Same probabilities, other random numbers: means agree within their standard errors."""
    features, lengths = inputs_of(scorer, examples, 1)
    [record] = scorer.score_batch(features, lengths, mc_dropout=40, **OPTIONS)

    def transcript() -> str:
        with torch.inference_mode():
            logits, _ = scorer.model(features, lengths)
        best = [c for c, _ in groupby(logits[0].argmax(1).tolist()) if c]
        return "".join(scorer.classes.vocabulary[c] for c in best)

    own = transcript()
    dropout_of(scorer).train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [transcript() for _ in range(40)]
    scorer.model.eval()
    distances = torch.tensor([plain_distance(own, o) / max(len(own), len(o)) for o in drawn])
    # Two means of 40; both seeds are fixed.
    assert record.mc_dropout == pytest.approx(
        float(distances.mean()), abs=4 * float(distances.std()) * (2 / 40) ** 0.5
    )
    assert 0.0 < float(distances.mean()) < 1.0


def test_neighbors_padding_and_other_options_change_nothing(scorer: Scorer, examples: Path) -> None:
    features, lengths = inputs_of(scorer, examples, 3)
    ids = ["a", "b", "c"]
    together = scorer.score_batch(features, lengths, ids=ids, mc_dropout=3, **OPTIONS)
    plain = scorer.score_batch(features, lengths, ids=ids, **OPTIONS)
    before = torch.get_rng_state()
    for n, record in enumerate(together):
        own = features[n : n + 1, : int(lengths[n])], lengths[n : n + 1]
        [alone] = scorer.score_batch(*own, ids=[ids[n]], mc_dropout=3, **OPTIONS)
        assert alone.mc_dropout == record.mc_dropout
        assert record.egl == plain[n].egl
        assert plain[n].mc_dropout is None
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in scorer.model.modules())
    assert "forward" not in vars(dropout_of(scorer))
    other = scorer.score_batch(features, lengths, ids=ids, mc_dropout=3, seed=1, **OPTIONS)
    assert [o.mc_dropout for o in other] != [o.mc_dropout for o in together]


class Frames(nn.Module):
    """A foreign model: one frame at a time, with dropout in between."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)
        self.output = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(self.dropout(x)), torch.full((len(x),), x.shape[1])


def test_a_foreign_model_drops_what_it_would_in_training() -> None:
    model = Frames(0.5)
    with torch.no_grad():
        model.output.weight.copy_(torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]))
        model.output.bias.copy_(torch.tensor([5.0, 0, 0, 0]))
    scorer = Scorer(model, ["<blank>", "a", "b", "c"])
    # A letter's frame becomes a blank if its only feature is dropped: half of 300 letters.
    x = torch.eye(3).repeat(1, 100, 1)
    [record] = scorer.score_batch(x, mc_dropout=4, **OPTIONS)
    # The mean of 1,200 coins, within four standard errors; neighbors that become alike add a few.
    assert record.mc_dropout == pytest.approx(0.5, abs=4 * 0.5 / 1200**0.5 + 0.1)


@pytest.mark.parametrize("dropout", [nn.Dropout(0.0), nn.Identity()])
def test_a_model_without_dropout_is_refused(dropout: nn.Module) -> None:
    model = Frames(0.5)
    model.add_module("dropout", dropout)
    scorer = Scorer(model, ["<blank>", "a", "b", "c"])
    with pytest.raises(ModelError, match="mc_dropout: the model has no torch"):
        scorer.score_batch(torch.zeros(1, 4, 3), mc_dropout=2)
