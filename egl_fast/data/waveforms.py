"""Recordings in memory to mono waveforms at the model's rate."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from egl_fast.data.audio import Waveform, load_audio, to_mono, too_long
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.errors import AudioError, one_line

#: Integers of 32 bits or more whose peak is below this share of their type's range are taken for
#: samples of 16 or 24 bits in too wide a type, rather than for a very soft recording (-48 dB).
_LEAST_PEAK = 2.0**-8

#: Floats above this are unscaled integers, not a recording that is too loud (30 dB).
_LARGEST_PEAK = 32.0

_WAYS = "give a tensor, an array, (samples, rate), or {'array': ..., 'sampling_rate': ...}"
_WAYS_WITH_RATE = "give (samples, rate), or {'array': ..., 'sampling_rate': ...}"


class _Held(NamedTuple):
    """Samples as given, and their rate; ``channels_first`` if known to be [channels, S]."""

    samples: Any
    rate_hz: Any
    channels_first: bool = False


def mono_waveform(held: object, *, rate_hz: int | None, to_rate_hz: int, name: str) -> Waveform:
    """Samples of one recording, in whatever form people have them.

    Args:
        held: a tensor, array, or list, [S] or [S, channels]; or something with its own rate:
            (samples, rate) as from soundfile, torchaudio, and SciPy, the audio column of a Hugging
            Face dataset, or a torchcodec decoder. Floats have full scale 1; integers the full scale
            of their type, with silence at 128 for uint8.
        rate_hz: the rate of samples without their own; None: unknown, which is an error.
        to_rate_hz: the rate of the result.
        name: what to call it in an error.

    Returns:
        [S] float32, full scale = 1.

    Raises:
        AudioError: it contains no samples, or none that can be scaled without guessing.
    """
    found = _held(held, rate_hz, name)
    if found.rate_hz is None:
        raise AudioError(f"{name}: comes without its rate; {_WAYS_WITH_RATE}")
    try:
        own_rate_hz = int(found.rate_hz)
    except (TypeError, ValueError, OverflowError):
        own_rate_hz = 0
    if not 1 <= own_rate_hz < 10**9 or own_rate_hz != found.rate_hz:
        raise AudioError(f"{name}: its rate is {found.rate_hz!r}, not a whole number of Hz")
    samples = _one_recording(_array(found.samples, name), found.channels_first, name)
    return to_mono(
        _full_scale(samples, name), from_rate_hz=own_rate_hz, to_rate_hz=to_rate_hz, name=name
    )


def load_waveform(
    utterance: Utterance, *, sample_rate_hz: int, max_seconds: float | None = None
) -> Waveform:
    """``load_audio``, also for an utterance that is held in memory as samples.

    Raises:
        AudioError: see ``load_audio`` and ``mono_waveform``.
    """
    if utterance.held is None or isinstance(utterance.held, (bytes, bytearray)):
        return load_audio(utterance, sample_rate_hz=sample_rate_hz, max_seconds=max_seconds)
    name = recording_name(utterance.audio_path)
    whole = mono_waveform(utterance.held, rate_hz=None, to_rate_hz=sample_rate_hz, name=name)
    start = round(utterance.offset_seconds * sample_rate_hz)
    seconds = utterance.duration_seconds
    waveform = whole[start : None if seconds is None else start + round(seconds * sample_rate_hz)]
    if not len(waveform):
        raise AudioError(f"{name}: offset {utterance.offset_seconds:g} s is beyond its end")
    if max_seconds is not None and len(waveform) > max_seconds * sample_rate_hz:
        raise AudioError(too_long(name, max_seconds))
    return waveform


def _held(held: Any, rate_hz: int | None, name: str) -> _Held:
    if isinstance(held, (str, bytes, PathLike)):
        raise AudioError(
            f"{name}: is {type(held).__name__}, not samples; score_manifest reads files"
        )
    if isinstance(held, Mapping):
        if held.get("array") is None or held.get("sampling_rate") is None:
            raise AudioError(
                f"{name}: a dictionary of {', '.join(map(repr, held)) or 'nothing'}; expected "
                "'array' and 'sampling_rate', as in the audio column of a decoded Hugging Face "
                "dataset"
            )
        # Hugging Face's audio has channels first.
        return _Held(held["array"], held["sampling_rate"], channels_first=True)
    if hasattr(held, "get_all_samples"):
        held = held.get_all_samples()
    if hasattr(held, "sample_rate") and hasattr(held, "data"):
        return _Held(held.data, held.sample_rate, channels_first=True)
    if isinstance(held, (tuple, list)) and len(held) == 2:
        first, second = held
        if _is_number(second) and not _is_number(first):
            return _Held(first, second, channels_first=isinstance(first, Tensor))
        if _is_number(first) and not _is_number(second):  # as SciPy has it
            return _Held(second, first)
    return _Held(held, rate_hz)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Number)


def _array(samples: Any, name: str) -> npt.NDArray[Any]:
    try:
        if isinstance(samples, Tensor):
            tensor = samples.detach().cpu()
            samples = tensor.float() if tensor.dtype.is_floating_point else tensor
        array: npt.NDArray[Any] = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise AudioError(f"{name}: contains no samples ({one_line(error)}); {_WAYS}") from None
    if array.dtype.kind not in "iuf":
        raise AudioError(f"{name}: contains {array.dtype} values, not samples; {_WAYS}")
    return array


def _one_recording(samples: npt.NDArray[Any], channels_first: bool, name: str) -> npt.NDArray[Any]:
    """[S] or [S, channels]."""
    if samples.ndim == 0:
        raise AudioError(f"{name}: is one number; give a list of waveforms, each [S]")
    if samples.ndim > 2:
        raise AudioError(
            f"{name}: has the shape {list(samples.shape)}; give [S] or [S, channels], and the "
            "recordings of a batch one by one"
        )
    if samples.ndim == 1:
        return samples
    if samples.shape[0] == 1 or (channels_first and samples.shape[0] < samples.shape[1]):
        return np.moveaxis(samples, 0, 1)
    if 0 < samples.shape[0] < samples.shape[1]:
        raise AudioError(
            f"{name}: has the shape {list(samples.shape)}, which looks like [channels, S]; "
            "transpose it to [S, channels]"
        )
    return samples


def _full_scale(samples: npt.NDArray[Any], name: str) -> npt.NDArray[np.floating]:
    """Samples as float32, full scale = 1."""
    if samples.dtype.kind == "f" or samples.size == 0:
        # to_mono refuses NaN and infinity.
        peak = float(np.abs(samples[np.isfinite(samples)]).max(initial=0.0))
        if peak > _LARGEST_PEAK:
            raise AudioError(
                f"{name}: {samples.dtype} samples of up to {peak:g}, where full scale is 1; divide "
                "them by their own full scale: 2**15 if they come from 16 bits"
            )
        return samples.astype(np.float32, copy=False)
    bits = 8 * samples.dtype.itemsize
    full_scale = 2.0 ** (bits - 1)
    middle = full_scale if samples.dtype.kind == "u" else 0.0
    # float64 represents integers of up to 32 bits exactly, and longer ones better than audible.
    wave = (samples.astype(np.float64) - middle) / full_scale
    peak = float(np.abs(wave).max())
    if bits > 16 and (middle or 0 < peak <= _LEAST_PEAK):
        raise AudioError(
            f"{name}: {samples.dtype} samples of {samples.min()} to {samples.max()}, where full "
            f"scale is {full_scale:g}; divide them by their own full scale: 2**15 if they have 16 "
            "bits, 2**23 if 24"
        )
    return wave.astype(np.float32)
