"""Front ends: from a recording's samples to the inputs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from egl_fast.data.audio import Waveform
from egl_fast.data.loading import pad_features, spectrogram_of
from egl_fast.errors import AudioError, EglError, ModelError, one_line
from egl_fast.features import FeatureConfig
from egl_fast.gradients.model_call import ModelInputs


@dataclass(frozen=True, eq=False)
class RecordingInput:
    """A model's input for one recording.

    Attributes:
        inputs: of a call for this recording alone, on the CPU.
        seconds: length of its audio.
        spectrum: of the audio, see ``egl_fast.embeddings.spectrum``; None unless asked for.
    """

    inputs: ModelInputs
    seconds: float
    spectrum: npt.NDArray[np.float32] | None = None


class FrontEnd(Protocol):
    """Makes a model's inputs, in threads that decode recordings ahead."""

    @property
    def sample_rate_hz(self) -> int:
        """The rate of the samples it takes."""

    def prepare(self, waveform: Waveform, *, name: str) -> RecordingInput:
        """The input for a mono waveform [S] of full scale 1.

        Raises:
            AudioError: the waveform, called ``name``, cannot be used.
        """

    def together(self, recordings: Sequence[RecordingInput]) -> ModelInputs:
        """The inputs of one call for several recordings, of a model that shares passes."""


@dataclass(frozen=True)
class Spectrograms:
    """Log-spectrograms [N, T, F] and their lengths [N], padded with zeros."""

    config: FeatureConfig

    @property
    def sample_rate_hz(self) -> int:
        """See ``FrontEnd``."""
        return self.config.sample_rate_hz

    def prepare(self, waveform: Waveform, *, name: str) -> RecordingInput:
        """See ``FrontEnd``."""
        found = spectrogram_of(waveform, self.config, name=name)
        length = torch.tensor([found.features.shape[0]])
        return RecordingInput(ModelInputs((found.features[None], length)), found.seconds)

    def together(self, recordings: Sequence[RecordingInput]) -> ModelInputs:
        """See ``FrontEnd``."""
        return ModelInputs(pad_features([one.inputs.positional[0][0] for one in recordings]))


@dataclass(frozen=True)
class WaveformFunction:
    """A function that makes the inputs for one recording, for models that run them one by one.

    Attributes:
        sample_rate_hz: the rate of the samples it takes.
        function: from [S] float32 samples of full scale 1 to the model's input: a tensor, a tuple
            (positional arguments) or a mapping (named ones), each with a first dimension of 1.
    """

    sample_rate_hz: int
    function: Callable[[Tensor], Any]

    def prepare(self, waveform: Waveform, *, name: str) -> RecordingInput:
        """See ``FrontEnd``."""
        try:
            with torch.no_grad():
                made = self.function(torch.from_numpy(waveform))
        except EglError:
            raise
        except Exception as error:
            raise AudioError(
                f"{name}: the model's front end failed with {type(error).__name__}: "
                f"{one_line(error)}"
            ) from error
        inputs = _as_inputs(made)
        for key, value in inputs.items():
            for tensor in tree_leaves(value):
                if isinstance(tensor, Tensor) and not bool(tensor.isfinite().all()):
                    raise AudioError(f"{name}: the model's input {key!r} contains NaN or infinity")
        return RecordingInput(inputs, waveform.shape[0] / self.sample_rate_hz)

    def together(self, recordings: Sequence[RecordingInput]) -> ModelInputs:
        """See ``FrontEnd``."""
        if len(recordings) != 1:
            raise ModelError(
                "the model declares utterances_first, but its front end makes inputs for one "
                "recording at a time; give a front end with a method `together`, or drop "
                "utterances_first"
            )
        return recordings[0].inputs


def _as_inputs(made: Any) -> ModelInputs:
    if isinstance(made, ModelInputs):
        return made
    if isinstance(made, Mapping):
        return ModelInputs(named=dict(made))
    return ModelInputs(tuple(made) if isinstance(made, (tuple, list)) else (made,))


def moved(inputs: ModelInputs, device: torch.device, dtype: torch.dtype) -> ModelInputs:
    """Inputs on a device, floating-point ones in a dtype; the copy to a GPU is asynchronous."""

    def move(x: Tensor) -> Tensor:
        if device.type == "cuda" and x.device.type == "cpu":
            # Asynchronous only from pinned memory, which torch keeps until the copy is done.
            x = x.pin_memory().to(device, non_blocking=True)
        return x.to(device, dtype if x.is_floating_point() else x.dtype)

    own: ModelInputs = tree_map_only(Tensor, move, inputs)
    return own
