"""Random numbers depend on seed and id only, and never change between versions."""

from __future__ import annotations

import pytest
import torch

from egl_fast import ops
from egl_fast.methods.keys import sign_key
from egl_fast.methods.samples import sample_labelings
from egl_fast.training.augment import utterance_rng

LOG_PROBS = torch.arange(12.0).view(4, 3).cos().log_softmax(1)

IDS = [
    "",
    "a",
    "a:b",
    "\0",
    "\ud800",
    "\ud83d\ude00",
    "\U0001f600",
    "e\u0301",
    "\u00e9",
    " " * 1000,
]
SEEDS = [0, -1, 2**63, -(2**63), 2**64 + 1, 2**200, -(2**200)]


@pytest.mark.parametrize(
    ("seed", "name", "key", "labelings"),
    [
        (0, "a", 3204062090063598962, [(), (2, 1, 2), (1, 2), (2, 2)]),
        (-1, "", 947862320446937424, [(1, 2), (2,), (2,), (1, 2, 1)]),
        (2**64 + 5, "\ud800", -4372497867839790428, [(2, 1), (1, 2, 1, 2), (1, 2), (2, 2)]),
        (-(2**200), "\U0001f600", -8187043522656582693, [(1, 2), (2, 2), (1, 2, 2), (1, 2)]),
    ],
)
def test_numbers_are_what_they_were_in_the_first_release(
    seed: int, name: str, key: int, labelings: list[tuple[int, ...]]
) -> None:
    """A change here changes every estimate: runs cannot be resumed, nor results repeated."""
    assert sign_key(seed, name) == key
    assert sample_labelings(LOG_PROBS, 4, seed=seed, name=name) == labelings


def test_normals_are_what_they_were_in_the_first_release() -> None:
    hypotheses = ops.Hypotheses.of([[(1, 2), (), (2**40,)]])
    normals = ops.ctc_hypothesis_normals(hypotheses, torch.tensor([-(2**63)]), num_normals=1)
    expected = [0.6671976241897172, 0.06277341349850166, -0.617363149634254]
    assert normals.flatten().tolist() == pytest.approx(expected, rel=1e-14)


def test_every_seed_and_id_has_numbers_of_its_own() -> None:
    keys = {sign_key(seed, name) for seed in SEEDS for name in IDS}
    assert len(keys) == len(SEEDS) * len(IDS)
    assert all(-(2**63) <= key < 2**63 for key in keys)
    draws = {
        tuple(sample_labelings(LOG_PROBS, 30, seed=seed, name=name))
        for seed in SEEDS
        for name in IDS
    }
    assert len(draws) == len(keys)
    noise = {utterance_rng(0, 1, name).random() for name in IDS}
    assert len(noise) == len(IDS)


def test_equal_ids_have_equal_numbers() -> None:
    keys = torch.tensor([sign_key(7, "a"), sign_key(7, "a"), sign_key(7, "b")])
    hypotheses = ops.Hypotheses.of([[(1,)]] * 3)
    one, same, other = ops.ctc_hypothesis_normals(hypotheses, keys, num_normals=5)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("key", [0, -1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("label", [0, -1, 2**63 - 1, -(2**63)])
def test_normals_of_any_key_and_label_are_numbers(key: int, label: int) -> None:
    hypotheses = ops.Hypotheses.of([[(label, label), ()]])
    normals = ops.ctc_hypothesis_normals(hypotheses, torch.tensor([key]), num_normals=1000)
    # Of a uniform number no nearer to 0 than 2^-53.
    assert float(normals.abs().max()) < (2 * 53 * 0.6932) ** 0.5


@pytest.mark.parametrize(
    ("values", "frame"),
    [([0.0, torch.nan], 1), ([torch.inf, 0.0], 0), ([-torch.inf, 0.0], 0), ([0.0, 800.0], 1)],
)
def test_draws_from_invalid_distributions_are_refused(values: list[float], frame: int) -> None:
    log_probs = torch.tensor(values)[:, None].expand(2, 3)
    with pytest.raises(ValueError, match=f"^log_probs: expected probabilities, frame {frame} adds"):
        sample_labelings(log_probs, 2, seed=0, name="a")


def test_classes_without_probability_are_never_drawn() -> None:
    log_probs = torch.full((50, 5), -torch.inf)
    log_probs[:, 1] = log_probs[:, 3] = -0.7
    drawn = {c for y in sample_labelings(log_probs, 200, seed=0, name="a") for c in y}
    assert drawn == {1, 3}


def test_many_draws_of_many_classes_take_little_memory() -> None:
    log_probs = torch.zeros(1, 1).expand(300, 3000).log_softmax(1)
    assert len(sample_labelings(log_probs, 100, seed=0, name="a")) == 100
    assert sample_labelings(log_probs, 0, seed=0, name="a") == []
    assert sample_labelings(log_probs[:0], 2, seed=0, name="a") == [(), ()]
