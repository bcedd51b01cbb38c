"""Threads that score at the same time wait only for what they share."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from foreign_models import VOCABULARY, Head, batch, encoder
from sandwich import Sandwich
from torch import Tensor, nn

import egl_fast
from egl_fast.compute.process_wide import SharedChange


def test_two_threads_may_score_with_one_model() -> None:
    model = Sandwich(lambda m, x: m.mid(x)).double().train()
    scorer = egl_fast.Scorer(model, VOCABULARY)
    x, lengths = batch()
    expected = scorer.score_batch(x, lengths, k=3)
    found: list[object] = []

    def work() -> None:
        for _ in range(15):
            try:
                found.append(scorer.score_batch(x, lengths, k=3))
            except Exception as error:
                found.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 45
    assert all(isinstance(p, nn.Parameter) for p in model.mid._parameters.values())
    assert model.training


def in_threads(*works: Callable[[], object]) -> list[object]:
    """Run these in threads; what each returned or raised."""
    found: list[object] = [None] * len(works)

    def work(n: int) -> None:
        try:
            found[n] = works[n]()
        except BaseException as error:
            found[n] = error

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a deadlock"
    return found


def test_unrelated_models_run_side_by_side() -> None:
    """Each waits inside its forward pass until the other is there too."""
    arrived = threading.Barrier(2, timeout=30)

    class Meeting(Head):
        met = False

        def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
            if not self.met:
                arrived.wait()
                self.met = True
            return super().forward(x, lengths)

    x, lengths = batch(dtype=torch.float32)
    scorers = [egl_fast.Scorer(Meeting(encoder()), VOCABULARY) for _ in range(2)]
    found = in_threads(
        *(lambda s=scorer: s.score_batch(x[:1], lengths[:1], k=2) for scorer in scorers)
    )
    assert all(isinstance(records, list) for records in found), found


def test_models_with_a_module_in_common_wait_for_each_other() -> None:
    shared = encoder()
    models = [Head(shared).train(), Head(shared).train()]
    x, lengths = batch(dtype=torch.float32)
    scorers = [egl_fast.Scorer(model, VOCABULARY) for model in models for _ in range(2)]
    expected = [scorer.score_batch(x, lengths, k=3) for scorer in scorers]
    state = torch.get_rng_state()

    def again(n: int) -> list[object]:
        return [scorers[n].score_batch(x, lengths, k=3) == expected[n] for _ in range(10)]

    found = in_threads(*(lambda n=n: again(n) for n in range(4)))
    assert found == [[True] * 10] * 4
    assert all(module.training for model in models for module in model.modules())
    assert all(isinstance(p, nn.Parameter) for m in shared for p in m._parameters.values())
    assert torch.get_rng_state().equal(state)


class Setting:
    """A global setting that could be saved and restored in the wrong order."""

    def __init__(self) -> None:
        self.value = "own"
        self.shared = SharedChange(self._set)

    def _set(self, value: str) -> Callable[[], None]:
        before, self.value = self.value, value

        def undo() -> None:
            self.value = before

        return undo


def test_a_shared_setting_lasts_until_the_last_user_leaves() -> None:
    setting = Setting()
    first, second = setting.shared("ours"), setting.shared("ours")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert setting.value == "ours"
    second.__exit__(None, None, None)
    assert setting.value == "own"


def test_other_values_wait_and_nested_values_are_restored() -> None:
    setting = Setting()

    def hold(value: str) -> bool:
        right = True
        for _ in range(200):
            with setting.shared(value):
                right &= setting.value == value
                with setting.shared(value):
                    right &= setting.value == value
                right &= setting.value == value
        return right

    assert in_threads(*(lambda v=v: hold(v) for v in ("a", "b", "a", "b"))) == [True] * 4
    assert setting.value == "own"
    with setting.shared("a"):
        with pytest.raises(ZeroDivisionError), setting.shared("b"):
            assert setting.value == "b"
            raise ZeroDivisionError
        assert setting.value == "a"
    assert setting.value == "own"
