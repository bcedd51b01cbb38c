"""Hard cases for every CTC kernel: the CUDA halves against the CPU halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from random_ctc import random_logits, rounding
from torch import Tensor

from egl_fast import _extension, ops

pytestmark = pytest.mark.usefixtures("engine")


@dataclass(frozen=True)
class Case:
    logits: Tensor
    lengths: Tensor
    num_hypotheses: int = 10
    beam_width: int = 40
    blank: int = 0
    normalized: bool = True

    @property
    def log_probs(self) -> Tensor:
        return self.logits.log_softmax(2) if self.normalized else self.logits

    @property
    def rounding(self) -> float:
        frames = [self.log_probs[n, :length].double() for n, length in enumerate(self.lengths)]
        return max((rounding(x) for x in frames), default=0.0)

    @property
    def search(self) -> dict[str, Any]:
        return {
            "num_hypotheses": self.num_hypotheses,
            "beam_width": self.beam_width,
            "blank": self.blank,
        }


def case(num_frames: int, num_classes: int, *, scale: float = 3.0, **options: Any) -> Case:
    lengths = torch.tensor(options.pop("lengths", [num_frames]), dtype=torch.int64)
    logits = random_logits(num_frames, len(lengths), num_frames, num_classes, scale=scale)
    return Case(logits, lengths, **options)


def excluding() -> Case:
    made = case(8, 6)
    made.logits[0, :, 2] = -torch.inf
    made.logits[0, 3, 1:] = -torch.inf
    return made


def silence() -> Case:
    """The empty labeling is certain, but for 1e-13."""
    made = case(6, 4)
    made.logits[0, :, 0] += 40
    return made


def padded() -> Case:
    made = case(12, 5, lengths=[12, 0, 1, 7], blank=3)
    for n, length in enumerate(made.lengths.tolist()):
        made.logits[n, length:] = torch.nan
    strided = made.logits.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    return Case(strided, made.lengths, blank=3)


def float32() -> Case:
    made = case(15, 7, lengths=[15, 9])
    return Case(made.logits.float(), made.lengths)


def extreme(frames: list[list[float]], blank: int) -> Case:
    """Log-probabilities whose probabilities underflow double precision."""
    logits = torch.tensor([frames], dtype=torch.float64)
    return Case(logits, torch.tensor([len(frames)]), blank=blank, normalized=False)


CASES: dict[str, Callable[[], Case]] = {
    "one frame": lambda: case(1, 5, num_hypotheses=5),
    "one class": lambda: case(4, 1),
    "no frame": lambda: case(0, 4, lengths=[0, 0]),
    "no utterance": lambda: case(5, 4, lengths=[]),
    "silence": silence,
    "blank in the middle": lambda: case(14, 9, blank=4),
    "blank at the end": lambda: case(14, 9, blank=8),
    "ragged, padding NaN, strided": padded,
    "minus infinity": excluding,
    "float32": float32,
    "flat": lambda: case(10, 6, scale=0.01),
    "sure": lambda: case(30, 6, scale=40.0),
    "a repeat after a blank of e^-900": lambda: extreme(
        [[-300, 0], [-300, 0], [-300, 0], [0, -300], [0, -300]], blank=1
    ),
    "one class at e^-1762": lambda: extreme([[-660], [-1102]], blank=0),
    "a total without an inverse": lambda: extreme([[-178, -532, -355], [-1, 0, -178]], blank=0),
    "K = 1,024": lambda: case(12, 8, num_hypotheses=1024, beam_width=1024),
    "C = 10,000": lambda: case(3, 10_000, num_hypotheses=20, beam_width=64, blank=5_000),
}


@pytest.fixture(params=CASES, name="case")
def _case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def on_the_cpu(call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(_extension, "operators", lambda: torch.ops.egl_fast)
        return call()


def test_the_search_equals_the_cpus(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> ops.Hypotheses:
        return ops.ctc_beam_search(case.log_probs, case.lengths, **case.search)

    found, expected = call(), on_the_cpu(call, monkeypatch)
    assert torch.equal(found.counts, expected.counts)
    assert torch.equal(found.label_lengths, expected.label_lengths)
    assert torch.equal(found.labels, expected.labels)
    for name in ("log_prob", "search_log_prob"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=case.rounding)


def test_occupancy_and_cotangents_equal_the_cpus(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(case, num_hypotheses=min(case.num_hypotheses, 50), beam_width=100)

    def search() -> ops.Hypotheses:
        return ops.ctc_beam_search(few.log_probs, few.lengths, **few.search)

    hypotheses = on_the_cpu(search, monkeypatch)
    tolerance = {"rtol": 0, "atol": 6 * case.rounding}
    if case.logits.dtype == torch.float32:
        tolerance["atol"] += 1e-7  # results are rounded
    for operator, emissions in (
        (ops.ctc_occupancy, few.log_probs),
        (ops.ctc_logits_cotangents, few.logits),
    ):

        def call(operator: Any = operator, emissions: Tensor = emissions) -> tuple[Tensor, ...]:
            found: tuple[Tensor, ...] = operator(
                emissions, few.lengths, hypotheses, blank=few.blank
            )
            return found

        for ours, theirs in zip(call(), on_the_cpu(call, monkeypatch), strict=True):
            torch.testing.assert_close(ours, theirs, **tolerance)


@pytest.mark.parametrize(
    "options", [{}, {"tolerance": 0.1}, {"probes": 3}, {"span": 2.0**-20}], ids=str
)
def test_what_is_to_be_pulled_back(
    case: Case, options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        case.num_hypotheses > 100
    ):  # an emulated block takes minutes for the eigenvectors of a thousand
        case = replace(case, num_hypotheses=64, beam_width=128)
    keys = torch.arange(len(case.lengths))

    def call() -> ops.NbestCotangents:
        return ops.ctc_nbest_cotangents(
            case.logits, case.lengths, keys=keys, **case.search, **options
        )

    found, expected = call(), on_the_cpu(call, monkeypatch)
    assert torch.equal(found.hypotheses.labels, expected.hypotheses.labels)
    assert torch.equal(found.hypotheses.counts, expected.hypotheses.counts)
    assert torch.equal(found.num_directions, expected.num_directions)
    assert torch.equal(found.num_probes, expected.num_probes)
    float32 = case.logits.dtype == torch.float32
    close: dict[str, float] = {"rtol": 1e-6 if float32 else 1e-9, "atol": 6 * case.rounding}
    torch.testing.assert_close(found.cotangent_sq_norms, expected.cotangent_sq_norms, **close)
    if not options:
        torch.testing.assert_close(found.cotangents, expected.cotangents, **close)
        assert torch.equal(found.combinations, expected.combinations)
    # Eigenvectors are free to turn where eigenvalues are near each other; the energy of all
    # directions together is not.
    for n in range(len(case.lengths)):
        energy, expected_energy = (
            x.cotangents[n, : int(x.num_directions[n])].double().square().sum()
            for x in (found, expected)
        )
        torch.testing.assert_close(energy, expected_energy, **close)
        assert not found.cotangents[n, int(found.num_directions[n] + found.num_probes[n]) :].any()


ELSEWHERE = {
    "lengths": "lengths: expected on cpu as log(it|_prob)s, got on meta",
    "labels": "labels: expected on cpu as log(it|_prob)s, got on meta",
    "counts": "counts: expected on cpu as log(it|_prob)s, got on meta",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tensors_elsewhere_are_named(name: str) -> None:
    logits, lengths = torch.zeros(1, 4, 3), torch.tensor([4])
    parts: dict[str, Tensor] = {"lengths": lengths, **ops.Hypotheses.of([[[1]]]).by_name}
    parts[name] = parts[name].to("meta")
    unknown = torch.zeros(1, 1, dtype=torch.float64)
    hypotheses = ops.Hypotheses(
        parts["labels"], parts["label_lengths"], unknown, unknown, parts["counts"]
    )
    for operator in (ops.ctc_occupancy, ops.ctc_logits_cotangents):
        with pytest.raises(ValueError, match=ELSEWHERE[name]):
            operator(logits, parts["lengths"], hypotheses)
    if name == "lengths":
        for search in (ops.ctc_beam_search, ops.ctc_nbest_cotangents):
            with pytest.raises(ValueError, match=ELSEWHERE[name]):
                search(logits, parts["lengths"], num_hypotheses=2)
    else:
        with pytest.raises(ValueError, match="expected on"):
            ops.ctc_hypothesis_normals(hypotheses, torch.tensor([1]), num_normals=2)


def test_other_arguments_elsewhere_are_named() -> None:
    logits, lengths = torch.zeros(1, 4, 3), torch.tensor([4])
    frame_gram = torch.zeros(1, 4, 4, dtype=torch.float64, device="meta")
    with pytest.raises(ValueError, match="frame_gram: expected on cpu as logits, got on meta"):
        ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=2, frame_gram=frame_gram)
    keys = torch.zeros(1, dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="keys: expected on cpu as logits, got on meta"):
        ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=2, keys=keys)
    ones = torch.ones(3, 1, 1, 2)
    with pytest.raises(ValueError, match="weight_hh: expected on cpu as cotangents, got on meta"):
        ops.recurrent_backward("rnn", ones, ones, torch.ones(2, 2, device="meta"), reverse=False)
    scan = ops.RecurrentScan(
        ones[:, :, 0], torch.ones(2, 2), None, torch.zeros(1, 2, device="meta")
    )
    with pytest.raises(ValueError, match="initial_state: expected on cpu as projected, got on"):
        ops.recurrent_forward("rnn", [scan])
