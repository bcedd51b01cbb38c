"""Schedules of the learning rate."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from egl_fast.training.run_folder import EpochMetrics
from egl_fast.training.schedule import rate_factor


def test_schedules_start_low_peak_after_the_warm_up_and_end_where_they_say() -> None:
    def factor(schedule: str, at: float, losses: tuple[float, ...] = ()) -> float:
        return rate_factor(schedule, at, warm_up_epochs=2, max_epochs=10, valid_losses=losses)

    for schedule in ("cosine", "plateau", "constant"):
        assert factor(schedule, 0.0) == pytest.approx(0.1)
        assert factor(schedule, 1.0) == pytest.approx(0.55)
        assert factor(schedule, 2.0) == pytest.approx(1.0)
    assert factor("cosine", 6.0) == pytest.approx(0.01 + 0.99 * 0.5)
    assert factor("cosine", 10.0) == pytest.approx(0.01)
    assert factor("constant", 9.9) == 1.0
    assert factor("plateau", 5.0, (3, 2, 1)) == 1.0
    assert factor("plateau", 5.0, (1, 2, 2)) == 0.5
    assert factor("plateau", 6.0, (1, 2, 2, 2)) == 0.5
    assert factor("plateau", 7.0, (1, 2, 2, 2, 2)) == 0.25
    assert factor("plateau", 7.0, (1, 2, 0.5, 2, 0.4)) == 1.0
    assert math.isclose(
        rate_factor("cosine", 0, warm_up_epochs=0, max_epochs=1, valid_losses=()), 1
    )


def test_no_loss_is_no_improvement_to_a_schedule() -> None:
    def factor(*losses: float | None) -> float:
        return rate_factor("plateau", 9, warm_up_epochs=1, max_epochs=99, valid_losses=losses)

    assert factor(3.0, None, None) == 0.5
    assert factor(None, 3.0, 2.0) == 1.0
    assert asdict(EpochMetrics(1, None, None, 1.0, 1.0, 1e-3, 1.0))["train_loss"] is None
