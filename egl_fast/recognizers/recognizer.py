"""A recognizer: a model with everything needed to score and transcribe recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from egl_fast.data.audio import Waveform
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.waveforms import load_waveform
from egl_fast.embeddings.spectrum import spectrum
from egl_fast.errors import ModelError
from egl_fast.features import FeatureConfig
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.gradients.running import unwrapped
from egl_fast.gradients.tape import declares_utterances_first
from egl_fast.recognizers.classes import Classes, Vocabulary
from egl_fast.recognizers.front_end import (
    FrontEnd,
    RecordingInput,
    Spectrograms,
    WaveformFunction,
    moved,
)


@dataclass(frozen=True, eq=False)
class Recognizer:
    """A CTC model, the meaning of its outputs, and how its inputs are made.

    Attributes:
        module: its call returns (logits [N, T, C], lengths [N]), or an object with ``logits``.
        classes: the meaning of the C classes.
        front_end: makes the module's inputs; None if they are only ever given ready-made.
        sha256: identity of weights and settings, "" if unknown.
        frame_seconds: audio for a frame of logits, None if unknown.
        case: of all letters the model writes; texts are compared with its own in this case.
        presets: named patterns of parameters, see ``pattern``.
        params: which parameters count unless the user says otherwise; None for all.
        trusted: [m, d] embeddings, by this model, of recordings it was trained on; None if it came
            without any.
    """

    module: nn.Module
    classes: Classes
    front_end: FrontEnd | None = None
    sha256: str = ""
    frame_seconds: float | None = None
    case: Literal["lower", "upper"] | None = None
    presets: Mapping[str, str] = field(default_factory=dict)
    params: str | None = None
    trusted: Tensor | None = None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        vocabulary: Vocabulary,
        front_end: Callable[[Tensor], Any] | FeatureConfig | FrontEnd | None = None,
        *,
        sample_rate_hz: int = 16000,
        blank: int | str = 0,
        sha256: str = "",
        frame_seconds: float | None = None,
    ) -> Recognizer:
        """A recognizer made from your own module.

        Args:
            module: its call returns (logits [N, T, C], lengths [N]), or an object with ``logits``.
            vocabulary: names of the C classes in index order, a dictionary from names to indices
                or from indices to names, or a file: a tokenizer.json, a vocab.json, or a .model of
                SentencePiece.
            front_end: from samples [S] (float32, mono, of full scale 1) to the module's input for
                one recording, with a first dimension of 1: a tensor, a tuple, or a dictionary of
                named inputs. Or a ``FeatureConfig``, for modules that take log-spectrograms
                [N, T, F] and lengths [N].
            sample_rate_hz: the rate of the samples that a function takes.
            blank: index of the blank, or its name. A tokenizer's file knows no blank: one past its
                last index adds it.
            sha256: identity of weights and settings.
            frame_seconds: audio for a frame of logits; tells apart right and wrong sample rates.

        Raises:
            ModelError: the module is not a torch.nn.Module, or the vocabulary has gaps, no order,
                or no such blank.
        """
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"model: expected a torch.nn.Module, got a {type(module).__name__}; for an "
                "exported program, give program.module()"
            )
        made: FrontEnd | None
        if isinstance(front_end, FeatureConfig):
            made = Spectrograms(front_end)
        elif front_end is None or hasattr(front_end, "prepare"):
            made = front_end  # type: ignore[assignment]
        elif callable(front_end):
            made = WaveformFunction(sample_rate_hz, front_end)
        else:
            raise ModelError(
                "front_end: expected a function of samples, a FeatureConfig or an object with "
                f"`prepare`, got a {type(front_end).__name__}"
            )
        return cls(module, Classes.of(vocabulary, blank), made, sha256, frame_seconds)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the module's inputs."""
        dtypes = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return next(dtypes, torch.float32)

    @property
    def shares_batches(self) -> bool:
        """Whether utterances may share a forward pass: the module's class declares it."""
        return declares_utterances_first(unwrapped(self.module))

    def pattern(self, params: str | None) -> str | None:
        """The shell patterns of parameters that a choice stands for: a preset, or patterns.

        "all" is every parameter, as is None, for a model without its own default.
        """
        params = self.params if params is None else params
        return None if params in (None, "all") else self.presets.get(params, params)

    def required_front_end(self) -> FrontEnd:
        """The front end.

        Raises:
            ModelError: there is none.
        """
        if self.front_end is None:
            raise ModelError(
                "this model has no front end, which makes its input from a recording; give "
                "front_end (in what a factory returns, or to Recognizer.of), features to Scorer, "
                "or the model's own input to score_batch"
            )
        return self.front_end

    def load(
        self,
        utterance: Utterance,
        *,
        max_seconds: float | None = None,
        with_spectrum: bool = False,
    ) -> RecordingInput:
        """Decode a recording and prepare it for the module.

        Args:
            utterance: a line of a manifest.
            max_seconds: how long it may be; None: any length.
            with_spectrum: whether to compute its ``spectrum``, too.

        Raises:
            AudioError: it cannot be read, is longer than ``max_seconds``, or cannot be used.
            ModelError: there is no front end.
        """
        rate = self.required_front_end().sample_rate_hz
        waveform = load_waveform(utterance, sample_rate_hz=rate, max_seconds=max_seconds)
        found = self.prepare(waveform, name=recording_name(utterance.audio_path))
        return replace(found, spectrum=spectrum(waveform, rate)) if with_spectrum else found

    def prepare(self, waveform: Waveform, *, name: str) -> RecordingInput:
        """Prepare mono samples [S] at the front end's rate; see ``FrontEnd.prepare``."""
        return self.required_front_end().prepare(waveform, name=name)

    def inputs(
        self,
        recordings: Sequence[RecordingInput],
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> ModelInputs:
        """The module's inputs for recordings that share a call, on the module's device.

        Args:
            recordings: one, unless ``shares_batches``.
            device: another place for the inputs.
            dtype: another dtype for those that are floating-point numbers.
        """
        return moved(
            self.required_front_end().together(recordings),
            device or self.device,
            dtype or self.dtype,
        )
