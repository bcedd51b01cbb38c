"""The engine compares its norms with plain autograd before it returns any."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from foreign_models import VOCABULARY, Head, batch, encoder
from sandwich import Sandwich
from torch import Tensor, nn

import egl_fast
from egl_fast.errors import ModelError
from egl_fast.gradients import engine as engine_module
from egl_fast.gradients import verification


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hooks_on_parameters_are_noticed(dtype: torch.dtype) -> None:
    model = Sandwich(lambda m, x: m.mid(x)).to(dtype)
    model.mid.weight.register_hook(lambda gradient: 2 * gradient)
    with pytest.raises(ModelError, match=r"disagree on mid\.weight"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(dtype=dtype), k=3)


@pytest.mark.parametrize(("share_in_double", "agrees"), [(1.0, True), (1.03, False)])
def test_rounding_of_a_float32_loop_is_no_disagreement(
    monkeypatch: pytest.MonkeyPatch, share_in_double: float, agrees: bool
) -> None:
    """As on 30 s of noise, where a float32 recurrence errs by several percent."""
    model = Sandwich(lambda m, x: m.mid(x)).float()
    plain = verification.plain_sq_norms
    shares = {torch.float32: 1.03, torch.float64: share_in_double}

    def rounded(*arguments: Any) -> dict[str, float | None]:
        share = shares[arguments[2].dtype]
        return {name: value and share * value for name, value in plain(*arguments).items()}

    monkeypatch.setattr(verification, "plain_sq_norms", rounded)
    scorer = egl_fast.Scorer(model, VOCABULARY)
    if agrees:
        assert scorer.score_batch(*batch(dtype=torch.float32), k=3)
    else:
        with pytest.raises(ModelError, match="disagree"):
            scorer.score_batch(*batch(dtype=torch.float32), k=3)


def test_an_utterance_that_differs_in_its_batch_is_said() -> None:
    table = torch.randn(3, 8, dtype=torch.float64)
    model = Sandwich(lambda m, x: m.mid(x) + m.rows.sum()).double()
    inner = model.forward

    def forward(x: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        model.rows = rows
        return inner(x, lengths)

    model.forward = forward  # type: ignore[assignment, method-assign]
    with pytest.warns(egl_fast.EglWarning, match="has different logits alone than in its batch"):
        egl_fast.Scorer(model, VOCABULARY).score_batch(*batch(), table, k=3)


def test_a_set_of_parameters_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[list[str]] = []
    check = engine_module.check_against_autograd

    def counting(model: nn.Module, tape: Any, *rest: Any) -> None:
        checked.append(list(tape.parameters))
        check(model, tape, *rest)

    monkeypatch.setattr(engine_module, "check_against_autograd", counting)
    scorer = egl_fast.Scorer(Head(encoder()), VOCABULARY)
    for _ in range(2):
        for params in (None, "output.*", "encoder.*"):
            scorer.score_batch(*batch(dtype=torch.float32), k=2, params=params)
    assert [len(names) for names in checked] == [6, 2, 4]


def test_a_backward_pass_that_torch_cannot_run_is_one_line() -> None:
    """With a bias and no weight, torch 2.13 cannot differentiate ``F.group_norm``."""

    class OnlyBias(Head):
        def __init__(self) -> None:
            super().__init__(encoder())
            self.bias = nn.Parameter(torch.zeros(8))

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            y = self.encoder(x)
            return self.output(F.group_norm(y.mT, 2, None, self.bias).mT), lengths

    with pytest.raises(ModelError, match=r"plain backward pass .* can be neither trained"):
        egl_fast.Scorer(OnlyBias(), VOCABULARY).score_batch(*batch(dtype=torch.float32), k=3)
