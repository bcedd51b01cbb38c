"""Other libraries' beam searches, as functions without arguments."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

from torch import Tensor

NUM_CLASSES = 29
_ALPHABET = ["-", *(chr(ord("a") + n) for n in range(NUM_CLASSES - 1))]

#: Name -> (module, how to get it).
PACKAGES = {
    "flashlight-text": ("flashlight", "pip install flashlight-text"),
    "fast-ctc-decode": ("fast_ctc_decode", "pip install fast-ctc-decode"),
}

Labelings = set[tuple[int, ...]]


def flashlight(log_probs: Tensor, width: int) -> Callable[[], Labelings]:
    """flashlight-text's lexicon-free decoder without a language model, over [1, T, C]."""
    from flashlight.lib.text import decoder

    options = decoder.LexiconFreeDecoderOptions(
        beam_size=width,
        beam_size_token=NUM_CLASSES,
        beam_threshold=1e9,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )
    own = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), -1, 0, [])
    emissions = log_probs[0].contiguous().numpy()

    def decode() -> Labelings:
        found: list[Any] = own.decode(emissions.ctypes.data, *emissions.shape)
        return {tuple(label for label, _ in groupby(one.tokens) if label > 0) for one in found}

    return decode


def fast_ctc_decode(log_probs: Tensor, width: int) -> Callable[[], Labelings]:
    """fast-ctc-decode's beam search over [1, T, C], which returns one labeling."""
    import fast_ctc_decode

    probs = log_probs[0].exp().numpy()

    def decode() -> Labelings:
        text: str = fast_ctc_decode.beam_search(
            probs, "".join(_ALPHABET), beam_size=width, beam_cut_threshold=0.0
        )[0]
        return {tuple(_ALPHABET.index(letter) for letter in text)}

    return decode


SEARCHES = {"flashlight-text": flashlight, "fast-ctc-decode": fast_ctc_decode}
