"""The random numbers of an utterance, which depend on the run's seed and its id alone."""

from __future__ import annotations

from egl_fast.hashing import hashed


def sign_key(seed: int, name: str) -> int:
    """The key for ``ops.ctc_nbest_cotangents``, a signed 64-bit number."""
    return int.from_bytes(_seed_bytes("signs", seed, name)[:8], "little", signed=True)


def labelings_key(seed: int, name: str) -> int:
    """The key for sampled labelings, 128 bits."""
    return int.from_bytes(_seed_bytes("labelings", seed, name)[:16], "little")


def _seed_bytes(purpose: str, seed: int, name: str) -> bytes:
    return hashed(purpose, seed, name, separator=":")
