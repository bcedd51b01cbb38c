"""What ties an utterance's random numbers to the run's seed and its id, and to nothing else."""

from __future__ import annotations

import hashlib


def digest(purpose: str, seed: int, name: str) -> bytes:
    """32 bytes for one purpose.

    Args:
        purpose: keeps the numbers of different uses independent.
        seed: of the run.
        name: the utterance's id.
    """
    return hashlib.sha256(f"{purpose}:{seed}:{name}".encode("utf-8", "surrogatepass")).digest()


def sign_key(seed: int, name: str) -> int:
    """The key of ``ops.ctc_nbest_cotangents``, a signed 64-bit number."""
    return int.from_bytes(digest("signs", seed, name)[:8], "little", signed=True)
