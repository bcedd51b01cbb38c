"""Audio in memory: integers of all widths, channels, dictionaries, pairs, decoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from recordings import random_checkpoint, scorer_of, waveform

from egl_fast.data.waveforms import mono_waveform
from egl_fast.errors import AudioError

RATE_HZ = 16000

#: Multiples of 1/128, so that all types hold it exactly.
WAVE = (np.round(waveform(0.25) * 128) / 128).astype(np.float32)
WIDE = np.round(WAVE * 2**15).astype(np.int16)
TENSOR = torch.from_numpy(WAVE)
STEREO = np.stack([WAVE, 0 * WAVE], axis=1)


def mono(held: object, rate_hz: int = RATE_HZ) -> np.ndarray:
    return mono_waveform(held, rate_hz=rate_hz, to_rate_hz=RATE_HZ, name="waveform 'x'")


SAME: dict[str, Any] = {
    "float64": WAVE.astype(np.float64),
    "float16": WAVE.astype(np.float16),
    "list": WAVE.tolist(),
    "backwards": WAVE[::-1].copy()[::-1],
    "every other": np.repeat(WAVE, 2)[::2],
    "read only": np.frombuffer(WAVE.tobytes(), np.float32),
    "big endian": WAVE.astype(">f4"),
    "int8": (WAVE * 2**7).astype(np.int8),
    "uint8": (WAVE * 2**7 + 2**7).astype(np.uint8),
    "int16": WIDE,
    "uint16": (WAVE * 2**15 + 2**15).astype(np.uint16),
    "int32": (WAVE * 2**31).astype(np.int32),
    "int64": (WAVE.astype(np.float64) * 2**63).astype(np.int64),
    "one channel": WAVE[:, None],
    "one channel first": WAVE[None],
    "two channels": np.stack([2 * WAVE, 0 * WAVE], axis=1),
    "tensor": TENSOR,
    "bfloat16": TENSOR.bfloat16(),
    "half": TENSOR.half(),
    "int16 tensor": torch.from_numpy(WIDE),
    "requires grad": TENSOR.clone().requires_grad_(),
    "strided tensor": torch.stack([TENSOR, TENSOR], dim=1)[:, 0],
    "tensor of one channel": TENSOR[None],
}


@pytest.mark.parametrize("kind", SAME)
def test_all_sample_types_give_the_same_waveform(kind: str) -> None:
    assert np.array_equal(mono(SAME[kind]), WAVE)


@pytest.mark.cuda
def test_a_tensor_on_a_gpu_is_fetched() -> None:
    assert np.array_equal(mono(TENSOR.cuda()), WAVE)


@dataclass
class Samples:
    """As torchcodec returns them."""

    data: torch.Tensor
    sample_rate: int


class Decoder:
    """As current data sets hold recordings."""

    def get_all_samples(self) -> Samples:
        return Samples(torch.stack([TENSOR, TENSOR]), 8000)


KNOW_THEIR_RATE: dict[str, Any] = {
    "datasets": {"path": "a.wav", "array": WAVE, "sampling_rate": 8000},
    "datasets, two channels": {"array": STEREO.T * 2, "sampling_rate": 8000},
    "torchaudio": (torch.stack([TENSOR, TENSOR]), 8000),
    "soundfile": (np.stack([WAVE, WAVE], axis=1), 8000),
    "SciPy": (8000, WIDE),
    "torchcodec": Decoder(),
    "torchcodec's samples": Decoder().get_all_samples(),
    "list of two": [WAVE, np.int64(8000)],
}


@pytest.mark.parametrize("kind", KNOW_THEIR_RATE)
def test_audio_with_its_own_rate_overrides_the_option(kind: str) -> None:
    assert np.array_equal(mono(KNOW_THEIR_RATE[kind], rate_hz=44100), mono(WAVE, rate_hz=8000))


REFUSED: dict[str, tuple[Any, str]] = {
    "16 bits in int32": (WIDE.astype(np.int32), "divide them by their own full scale"),
    "16 bits in int64": (WIDE.astype(np.int64), "divide them by their own full scale"),
    "16 bits in Python": (WIDE.tolist(), "divide them by their own full scale"),
    "24 bits in int32": ((WAVE * 2**23).astype(np.int32), "2\\*\\*23 if 24"),
    "uint32": (WIDE.astype(np.uint32), "divide them by their own full scale"),
    "integers in float": (WIDE.astype(np.float32), "samples of up to .*, where full scale is 1"),
    "channels first": (STEREO.T, r"shape \[2, 4000\], .* transpose it to \[S, channels\]"),
    "channels first, tensor": (torch.stack([TENSOR] * 6), r"transpose it"),
    "a batch": (WAVE[None, None], r"shape \[1, 1, 4000\]; give \[S\]"),
    "a number": (0.5, "is one number"),
    "bool": (WAVE > 0, "contains bool values"),
    "complex": (WAVE.astype(np.complex64), "contains complex64 values"),
    "complex tensor": (TENSOR.to(torch.complex64), "contains complex64 values"),
    "objects": (np.array([0.5, None]), "contains object values"),
    "None": (None, "contains object values"),
    "ragged": ([[0.5, 0.5], [0.5]], "contains no samples"),
    "too large integers": ([2**70, 1], "contains object values"),
    "a path": ("a.wav", "score_manifest"),
    "encoded": ({"bytes": b"RIFF", "path": None}, "expected 'array' and 'sampling_rate'"),
    "no rate": ({"array": WAVE, "sampling_rate": "8k"}, "rate is '8k'"),
    "a rate of 0": ((WAVE, 0), "rate is 0"),
    "half a Hz": ((WAVE, 8000.5), "rate is 8000.5"),
    "nothing": ([], "contains no samples"),
    "nothing in two channels": (np.zeros((0, 2)), "contains no samples"),
    "NaN": (np.array([0.5, np.nan]), "NaN or infinite"),
    "infinite": (torch.tensor([0.5, -torch.inf]), "NaN or infinite"),
    "meta": (torch.zeros(4000, device="meta"), "contains no samples"),
    "sparse": (TENSOR.to_sparse(), "contains no samples"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_ambiguous_audio_is_refused(kind: str) -> None:
    held, complaint = REFUSED[kind]
    with pytest.raises(AudioError, match=complaint) as caught:
        mono(held)
    assert str(caught.value).startswith("waveform 'x': ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_silence_is_silence_in_any_type(dtype: type) -> None:
    assert not mono(np.zeros(4000, dtype)).any()


def test_scores_do_not_depend_on_the_sample_type() -> None:
    scorer = scorer_of(random_checkpoint())
    kinds = ["tensor", "uint8", "int16", "int32", "bfloat16", "one channel first"]
    records = scorer.score_waveforms(
        [SAME[kind] for kind in kinds] + [{"array": WAVE, "sampling_rate": RATE_HZ}],
        sample_rate_hz=RATE_HZ,
        ids=[*kinds, "datasets"],
        k=3,
        batch_seconds=0.1,
    )
    assert len({record.egl for record in records}) == 1
    with pytest.raises(AudioError, match=r"waveform '1': int64 samples"):
        scorer.score_waveforms([WAVE, WIDE.tolist()], sample_rate_hz=RATE_HZ, k=3)


def test_a_rate_in_kilohertz_is_refused() -> None:
    with pytest.raises(AudioError, match="its rate of 16 Hz is too low"):
        mono(np.zeros(100, np.float32), rate_hz=16)


def test_recordings_come_in_any_iterable_but_not_alone() -> None:
    scorer = scorer_of(random_checkpoint())
    wave = waveform(0.3)
    [record] = scorer.score_waveforms((w for w in [wave]), sample_rate_hz=RATE_HZ, k=3)
    assert record.num_hypotheses == 3
    with pytest.raises(ValueError, match="put it in a list"):
        scorer.score_waveforms(
            {"array": wave, "sampling_rate": RATE_HZ},  # type: ignore[arg-type]
            sample_rate_hz=RATE_HZ,
        )
