"""Vocabularies, options, and model outputs in any form: used as intended, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.recognizers.classes import Classes
from egl_fast.scoring.options import ScoringOptions

NAMES = ("<pad>", "a", "b", "c")


@pytest.mark.parametrize(
    "vocabulary",
    [
        list(NAMES),
        np.array(NAMES),
        {"c": 3, "<pad>": 0, "b": 2, "a": 1},
        {2: "b", 0: "<pad>", 3: "c", 1: "a"},
        {"c": np.int64(3), "<pad>": np.int64(0), "b": np.int64(2), "a": np.int64(1)},
        (name for name in NAMES),
    ],
)
@pytest.mark.parametrize("blank", [0, np.int32(0), torch.tensor(0), "<pad>"])
def test_a_vocabulary_comes_in_many_forms(vocabulary: Any, blank: Any) -> None:
    if not isinstance(vocabulary, (list, dict, np.ndarray)):
        vocabulary = iter(NAMES)  # a generator can be used only once
    found = Classes.of(vocabulary, blank)
    assert (found.vocabulary, found.blank) == (NAMES, 0)


def test_a_string_has_a_name_in_each_character() -> None:
    found = Classes.of("_ab", "_")
    assert (found.vocabulary, found.blank) == (("_", "a", "b"), 0)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (set(NAMES), "index order, got a set; give a list, or a dictionary"),
        (frozenset(NAMES), "got a frozenset"),
        ({"a": 0}.keys(), "got a dict_keys"),
        (b"_ab", "got a bytes"),
        (None, "got None"),
        (7, "got a int"),
        ({"a": 0, "b": 2}, "2 names need the indices 0 to 1, but none has index 1"),
        ({"a": 1, "b": 2}, "none has index 0"),
        ({"a": 0, "b": -1}, "none has index 1"),
        ({"a": 0, "b": 0}, "'a' and 'b' share index 0"),
        ({"a": 0.0}, r"expected 'a' at an index, got 0\.0"),
        ({"a": True}, "expected 'a' at an index, got True"),
        ({"0": "a"}, "expected '0' at an index, got 'a'"),
        ({"a": 0, 1: "b"}, "at an index"),
        ([["a"]], r"expected names, got \['a'\] at index 0"),
        ([0, 1], "expected names, got 0 at index 0"),
        ([("a", 0)], r"expected names, got \('a', 0\)"),
    ],
)
def test_vocabularies_without_an_order_are_refused(vocabulary: Any, message: str) -> None:
    with pytest.raises(ModelError, match=f"^vocabulary: .*{message}"):
        egl_fast.Scorer(Returning(lambda z: z), vocabulary)


@pytest.mark.parametrize(
    ("blank", "message"),
    [
        ("<blank>", "blank '<blank>': is the name of 0 of the 4 classes"),
        ("twice", "blank 'twice': is the name of 2 of the 4 classes"),
        (-1, "blank -1 is not an index of the 4 classes"),
        (4, "blank 4 is not an index"),
        (None, "expected a class's index or name, got None"),
        (True, "got True"),
        (1.0, r"got 1\.0"),
        (math.nan, "got nan"),
    ],
)
def test_a_blank_that_is_not_a_class_is_refused(blank: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        egl_fast.Scorer(Returning(lambda z: z), ["-", "twice", "twice", "c"], blank)


class Returning(nn.Module):
    """Two layers, and a function of their logits."""

    def __init__(self, made_of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inputs, self.output = nn.Linear(6, 8), nn.Linear(8, 4)
        self.made_of = made_of

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.made_of(self.output(self.inputs(x).tanh())), lengths


def batch(frames: int = 9) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, frames, 6, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([frames, max(1, frames - 3)])


PADDING = torch.tensor([[True] * 9, [True] * 6 + [False] * 3])[..., None]

#: Functions of the logits that do not return logits, and the error for each.
MISTAKEN: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda z: z.softmax(2), "probabilities .*return their logarithm"),
    "softmax in 16 bits": (lambda z: z.bfloat16().softmax(2).float(), "probabilities"),
    "softmax in float64": (lambda z: z.double().softmax(2), "probabilities"),
    "softmax, nothing on padding": (
        lambda z: z.softmax(2) * PADDING[-len(z) :, : z.shape[1]],
        "probabilities",
    ),
    "softmax, then masked": (
        lambda z: z.softmax(2) * (torch.arange(z.shape[1]) != 1)[:, None],
        "probabilities",
    ),
    "softmax, clamped": (lambda z: z.softmax(2).clamp(min=1e-8), "probabilities"),
    "one-hot": (lambda z: z - z.detach() + (z == z.amax(2, keepdim=True)), "probabilities"),
    "negated": (lambda z: -z.log_softmax(2), "negated log-probabilities.*their negative"),
    "base 10": (lambda z: z.log_softmax(2) / math.log(10), "base 10.*natural logarithms"),
    "base 2": (lambda z: z.log_softmax(2) / math.log(2), "base 2.*natural logarithms"),
}


@pytest.mark.parametrize("name", MISTAKEN)
@pytest.mark.parametrize("together", [True, False])
def test_outputs_that_are_not_logits_are_refused(name: str, together: bool) -> None:
    made_of, message = MISTAKEN[name]
    x, lengths = batch()
    if not together:
        x, lengths = x[:1], lengths[:1]
    with pytest.raises(ModelError, match=f"the model returns .*{message}"):
        egl_fast.Scorer(Returning(made_of), NAMES).score_batch(x, lengths, k=3)


#: Functions whose results are logits, or may be.
LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda z: z,
    "log-softmax": lambda z: z.log_softmax(2),
    "log-softmax, sure": lambda z: (20 * z).log_softmax(2),
    "without a class": lambda z: z.masked_fill(torch.arange(4) == 3, -torch.inf),
    "all above 0": lambda z: z.relu() + 0.1,
    "probabilities, sharpened": lambda z: 100 * z.softmax(2),
    "one frame of probabilities": lambda z: torch.cat([z[:, :1].softmax(2), z[:, 1:]], 1),
    "between 0 and 1": lambda z: z.sigmoid(),
    "all the same": lambda z: 0 * z,
}


@pytest.mark.parametrize("name", LOGITS)
def test_what_may_be_logits_is_scored(name: str) -> None:
    records = egl_fast.Scorer(Returning(LOGITS[name]), NAMES).score_batch(*batch(), k=3)
    assert [record.num_hypotheses for record in records] == [3, 3]


def test_a_single_frame_is_refused_only_where_that_is_certain() -> None:
    x, lengths = batch(1)
    x, lengths = x[:1], lengths[:1]
    nearly = Returning(lambda z: z.softmax(2) * 1.001)
    assert egl_fast.Scorer(nearly, NAMES).score_batch(x, lengths, k=3)
    with pytest.raises(ModelError, match="returns probabilities"):
        egl_fast.Scorer(Returning(lambda z: z.softmax(2)), NAMES).score_batch(x, lengths, k=3)


@pytest.mark.parametrize(
    "lengths", [None, "9", object(), [object()], [9.0], [True], [[9]], 9, torch.tensor([9 + 0j])]
)
def test_lengths_of_another_form_are_refused(lengths: Any) -> None:
    model = Returning(lambda z: z)
    inner = model.forward
    model.forward = lambda x, n: (inner(x, n)[0], lengths)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"^the model's lengths: expected \[1\] integers, got"):
        egl_fast.Scorer(model, NAMES).score_batch(batch()[0][:1], torch.tensor([9]), k=3)


def test_frames_first_are_recognized() -> None:
    model = Returning(lambda z: z.transpose(0, 1))
    with pytest.raises(ModelError, match=r"are the logits \[T, N, C\] = \[9, 2, 4\]\?"):
        egl_fast.Scorer(model, NAMES).score_batch(*batch(), k=3)


@pytest.mark.parametrize("name", ["k", "beam_width", "probes", "full_samples", "seed"])
@pytest.mark.parametrize("value", [True, 200.0, math.nan, "200", np.float32(200)])
def test_options_that_count_take_integers_only(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected a whole number, got"):
        ScoringOptions(**{name: value})


def test_numpys_integers_are_taken_as_pythons() -> None:
    options = ScoringOptions(k=np.int64(5), beam_width=np.int32(50), seed=np.uint64(2**64 - 1))
    assert options == ScoringOptions(k=5, beam_width=50, seed=2**64 - 1)
    assert {type(value) for value in (options.k, options.beam_width, options.seed)} == {int}


@pytest.mark.parametrize("seed", [-1, -(2**70), 2**70])
def test_any_integer_is_a_seed(seed: int) -> None:
    scorer = egl_fast.Scorer(Returning(lambda z: z), NAMES)
    options: dict[str, Any] = {"k": 5, "method": "probe", "full": True}
    first = scorer.score_batch(*batch(), **options, seed=seed)
    assert first == scorer.score_batch(*batch(), **options, seed=seed)
    assert first != scorer.score_batch(*batch(), **options, seed=seed + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: expected at least 1, got 0"),
        ({"k": 2**63}, "k: expected at most 1000000"),
        ({"k": 10, "beam_width": 9}, "beam_width: expected at least k = 10, got 9"),
        ({"beam_width": 2**63}, "beam_width: expected at most 1000000000"),
        ({"method": None}, "method: expected one of"),
        ({"method": "magic"}, "method: expected one of exact, lowrank, probe, none, got 'magic'"),
        ({"tolerance": 0.0}, "tolerance: expected a number"),
        ({"tolerance": math.nan}, "tolerance: expected a finite number, got nan"),
        ({"tolerance": math.inf}, "tolerance: expected a finite number"),
        ({"tolerance": 1.0}, "tolerance: expected a number below 1, got 1"),
        ({"tolerance": "0.1"}, "tolerance: expected a number, got '0.1'"),
        ({"tolerance": None}, "tolerance: expected a number"),
        ({"full": "no"}, "full: expected true or false, got 'no'"),
        ({"per_hypothesis": 1}, "per_hypothesis: expected true or false, got 1"),
        ({"params": ""}, "params: expected one string of patterns"),
        ({"params": ["output.*"]}, r"params: expected one string .*got \['output\.\*'\]"),
    ],
)
def test_options_of_another_form_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        ScoringOptions(**options)


def test_a_pattern_of_frozen_parameters_says_so() -> None:
    model = Returning(lambda z: z)
    model.inputs.requires_grad_(False)
    with pytest.raises(ModelError, match=r"'inputs\.\*' matches only parameters that require no "):
        egl_fast.Scorer(model, NAMES).score_batch(*batch(), params="inputs.*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["a"]}, "ids: expected 2, got 1"),
        ({"ids": [1, 2]}, "ids: expected strings, got 1"),
        ({"ids": "ab"}, "ids: expected 2, got 1"),
        ({"durations": [1.0]}, "durations: expected 2, got 1"),
        ({"durations": [1.0, math.nan]}, "durations: expected seconds, got nan"),
        ({"durations": [1.0, -1.0]}, r"durations: expected seconds, got -1\.0"),
        ({"durations": [1.0, "1"]}, "durations: expected seconds, got '1'"),
    ],
)
def test_ids_and_durations_of_another_form_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        egl_fast.Scorer(Returning(lambda z: z), NAMES).score_batch(*batch(), **arguments)


def test_each_pattern_of_parameters_has_to_match() -> None:
    with pytest.raises(ModelError, match=r"'nope\.\*' matches no parameter"):
        egl_fast.Scorer(Returning(lambda z: z), NAMES).score_batch(
            *batch(), params="inputs.*,nope.*"
        )


@pytest.mark.parametrize(
    ("names", "blank", "warns"),
    [
        (["a", "b", "<blank>"], 0, True),
        ({"a": 0, "b": 1, "[PAD]": 2}, 1, True),
        (["a", "b", "<blank>"], 2, False),
        (["<pad>", "a", "<blank>"], 0, False),
        (["a", "b", "c"], 0, False),
    ],
)
def test_a_misplaced_blank_is_warned_of(
    names: Any, blank: int, warns: bool, recwarn: pytest.WarningsRecorder
) -> None:
    Classes.of(names, blank)
    assert ["if that is the blank" in str(w.message) for w in recwarn] == [True] * warns


@pytest.mark.parametrize("memory_bytes", [0, -5, 1.5, True])
def test_memory_takes_a_number_of_bytes_only(memory_bytes: Any) -> None:
    with pytest.raises(ValueError, match="memory_bytes: expected at least 1"):
        egl_fast.Scorer(Returning(lambda z: z), NAMES, memory_bytes=memory_bytes)
