"""Typicality: junk is found, and nothing but the recordings themselves decides."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler

from egl_fast.embeddings import typicality as module
from egl_fast.embeddings.duplicates import copies
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.embeddings.typicality import typicality
from egl_fast.hashing import hashed


def made(num_speech: int = 300, num_junk: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trusted recordings, a pool of two dense kinds of speech and scattered junk, and which is."""
    random = np.random.default_rng(7)
    width = 40 + SIZE
    centers = random.normal(size=(2, width)) * 4
    speech = centers[random.integers(0, 2, num_speech)] + random.normal(size=(num_speech, width))
    junk = random.normal(size=(num_junk, width)) * 8
    pool = np.concatenate([speech[50:], junk]).astype(np.float32)
    is_speech = np.arange(len(pool)) < num_speech - 50
    return speech[:50].astype(np.float32), pool, is_speech


def test_junk_is_less_typical_than_speech() -> None:
    trusted, pool, is_speech = made()
    assert roc_auc_score(is_speech, typicality(trusted, pool).pool) > 0.95


def test_it_is_the_least_over_scales_of_scikit_learns_factor() -> None:
    """The formula of the docstring, from scikit-learn's own pieces."""
    trusted, pool, _ = made()
    together = np.concatenate([trusted, pool]).astype(np.float64)
    scaled = StandardScaler().fit_transform(together)
    scaled[:, :40] *= np.sqrt((1 - module.SPECTRUM_SHARE) / 40)
    scaled[:, 40:] *= np.sqrt(module.SPECTRUM_SHARE / SIZE)
    points = PCA(module.NUM_COMPONENTS, svd_solver="full").fit_transform(scaled)
    factors = [
        LocalOutlierFactor(round(scale * len(points))).fit(points).negative_outlier_factor_
        for scale in module.SCALES
    ]
    expected = -np.log(np.max(-np.array(factors), axis=0))
    found = typicality(trusted, pool)
    assert np.concatenate([found.trusted, found.pool]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("most", [10**6, 120])
def test_order_does_not_matter(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a sample stands for the pool: it is chosen by content."""
    monkeypatch.setattr(module, "MAX_FITTED", most)
    trusted, pool, _ = made()
    shuffle = np.random.default_rng(0).permutation(len(pool))
    straight = typicality(trusted, pool)
    shuffled = typicality(trusted[::-1], pool[shuffle])
    assert shuffled.pool == pytest.approx(straight.pool[shuffle], abs=1e-9)
    assert sorted(shuffled.trusted) == pytest.approx(sorted(straight.trusted), abs=1e-9)


def test_a_sample_of_the_pool_finds_the_same_junk(monkeypatch: pytest.MonkeyPatch) -> None:
    trusted, pool, is_speech = made(num_speech=600, num_junk=60)
    monkeypatch.setattr(module, "MAX_FITTED", 300)
    monkeypatch.setattr(module, "_BLOCK", 17)
    assert roc_auc_score(is_speech, typicality(trusted, pool).pool) > 0.95


def test_the_threshold_is_the_rate_of_false_alarms_among_like_recordings() -> None:
    """A pool of nothing but speech: the share below the threshold, to three binomial errors."""
    trusted, pool, is_speech = made(num_speech=1050, num_junk=2)
    speech = pool[is_speech]
    found = typicality(trusted, speech)
    rate = (found.pool < found.threshold(0.1)).mean()
    error = (0.1 * 0.9 * (1 / len(trusted) + 1 / len(speech))) ** 0.5
    assert abs(rate - 0.1) < 3 * error


def test_copies_of_junk_do_not_make_it_typical() -> None:
    trusted, pool, is_speech = made()
    once = typicality(trusted, pool).pool
    junk = int(np.flatnonzero(~is_speech)[np.argmin(once[~is_speech])])
    copied = np.concatenate([pool, np.repeat(pool[[junk]], 60, axis=0)])
    found = typicality(trusted, copied).pool
    assert found[: len(pool)] == pytest.approx(once, abs=1e-9)
    assert found[len(pool) :] == pytest.approx(once[junk], abs=1e-9)


@pytest.mark.parametrize("times", [2, 12, 40])
def test_copies_are_found_however_many_there_are(times: int) -> None:
    _, pool, _ = made()
    rounding = 1 + 1e-6 * np.random.default_rng(1).normal(size=(times, 1, 1))
    many = (pool * rounding).reshape(-1, pool.shape[1])
    assert len(set(copies(many).tolist())) == len(pool)


def test_junk_that_the_model_does_not_see_is_found_by_its_spectrum() -> None:
    trusted, pool, is_speech = made()
    trusted[:, :40], pool[:, :40] = 0, 0
    assert roc_auc_score(is_speech, typicality(trusted, pool).pool) > 0.95


def test_too_few_recordings_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 12 recordings"):
        typicality(np.zeros((3, 4 + SIZE)), np.zeros((8, 4 + SIZE)))


def test_a_sample_is_the_start_of_the_order_of_hashes() -> None:
    rows = np.random.default_rng(0).standard_normal((250, 3)).astype(np.float32)
    rows = np.concatenate([rows, rows])
    chances = [hashed(3, row.tobytes().hex()) for row in rows]
    order = sorted(range(500), key=chances.__getitem__)
    for count in range(100, 300):
        assert module._sample(rows, count, 3).tolist() == sorted(order[:count])
