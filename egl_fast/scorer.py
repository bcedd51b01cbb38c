"""``Scorer``: a model and its vocabulary, and the ways to score utterances with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from egl_fast.compute.devices import usable_device
from egl_fast.compute.precision import Precision
from egl_fast.data.reading import READ_TIMEOUT_SECONDS
from egl_fast.data.rows import Pool, known_length, utterances_in
from egl_fast.data.waveforms import mono_waveform
from egl_fast.features import FeatureConfig
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.progress import counted
from egl_fast.recognizers import checkpoint
from egl_fast.recognizers.classes import Classes, Vocabulary
from egl_fast.recognizers.front_end import Spectrograms
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.recognizers.spec import load_recognizer
from egl_fast.records import ScoreRecord
from egl_fast.scoring.arguments import names_of
from egl_fast.scoring.batch_inputs import score_inputs
from egl_fast.scoring.formula.dropout import dropout_modules
from egl_fast.scoring.formula.plausibility import Plausibility
from egl_fast.scoring.options import (
    ScoringKeywords,
    ScoringOptions,
    split_keywords,
    takes_scoring_options,
)
from egl_fast.scoring.run.outcome import Outcome, in_order
from egl_fast.scoring.run.pool import PoolScoring, ReadingLimits
from egl_fast.scoring.schedule.batches import BatchLimit, BatchScoring
from egl_fast.scoring.task import ScoringTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Padded audio that shares a forward pass. On a CPU, small batches keep activations in the cache,
#: and the cotangents of one utterance can fill a backward pass. A GPU needs large products.
BATCH_SECONDS = 8.0
CUDA_BATCH_SECONDS = 160.0


class Scorer:
    """Scores utterances by Expected Gradient Length under a CTC model.

    Every method takes the options of ``ScoringOptions`` as keywords.

    Args:
        model: any module whose call returns (logits [N, T, C], lengths [N]), or an object with
            ``logits``, as CTC models of Hugging Face do; log-softmax output is fine, too. It is run
            on its own device, in its own dtype (float32 or float64), in evaluation mode. Training
            mode, hooks, gradients and random state are restored, also after an exception. Or a
            ``Recognizer``, which brings vocabulary, blank, features and hash.
        vocabulary: names of the C classes in index order, a dictionary from names to indices or
            from indices to names, in any order, or a tokenizer's file; see ``Recognizer.of``. The
            blank's name is ignored.
        blank: index of the blank, or its name.
        features: how to turn waveforms into the model's input (spectrograms [N, T, F] and their
            lengths); only ``score_waveforms`` and ``score_manifest`` need it.
        model_hash: identity of the model, for metadata.
        params: which parameters count unless a call says otherwise; see ``ScoringOptions``.
        memory_bytes: memory for gradients, in addition to the forward pass and the cotangents.
            With less, there are more backward passes of fewer rows. None: a quarter of the
            machine's, at most 4 GiB, or half of a GPU's.
        precision: of a float32 model's matrix products: "float32", or, faster on a GPU, "tf32" or
            "bf16"; docs/cuda.md says what that does to scores.

    Raises:
        ModelError: the vocabulary has gaps or no order, the blank is not one of its classes, no
            parameter requires a gradient, or one cannot be differentiated.
        DeviceError: a parameter is neither on the CPU nor on an NVIDIA GPU.
        ValueError: the precision is unknown, or not available on the model's device.

    Example:
        >>> model = nn.Linear(3, 2)
        >>> class Frames(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.output = nn.Linear(3, 2)
        ...     def forward(self, x, lengths):
        ...         return self.output(x), lengths
        >>> scorer = Scorer(Frames(), vocabulary=["<blank>", "a"], blank=0)
        >>> [record] = scorer.score_batch(torch.ones(1, 4, 3), torch.tensor([4]), k=5)
        >>> record.num_frames, record.num_hypotheses
        (4, 3)
    """

    def __init__(
        self,
        model: nn.Module | Recognizer,
        vocabulary: Vocabulary = (),
        blank: int | str = 0,
        *,
        features: FeatureConfig | None = None,
        model_hash: str = "",
        params: str | None = None,
        memory_bytes: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        if not isinstance(model, Recognizer):
            model = Recognizer.of(model, vocabulary, features, blank=blank, sha256=model_hash)
        self.recognizer = model
        self.params = model.params if params is None else params
        self.precision = precision
        self._engine = GradientEngine(
            self.model,
            params=model.pattern(params),
            memory_bytes=memory_bytes,
            precision=precision,
        )
        self.memory_bytes = self._engine.memory.total_bytes
        self._engines: dict[str | None, GradientEngine] = {self.params: self._engine}
        self._plausibility = Plausibility(self.recognizer)

    @property
    def model(self) -> nn.Module:
        """The module."""
        return self.recognizer.module

    @property
    def classes(self) -> Classes:
        """The meaning of the model's outputs."""
        return self.recognizer.classes

    @property
    def features(self) -> FeatureConfig | None:
        """Settings of the spectrograms that the model takes; None if it takes something else."""
        front_end = self.recognizer.front_end
        return front_end.config if isinstance(front_end, Spectrograms) else None

    @property
    def model_hash(self) -> str:
        """Identity of the model, "" if unknown."""
        return self.recognizer.sha256

    @property
    def default_batch_seconds(self) -> float:
        """Padded audio that shares a forward pass unless the caller says otherwise."""
        return CUDA_BATCH_SECONDS if self.device.type == "cuda" else BATCH_SECONDS

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return next(self.model.parameters()).device

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        memory_bytes: int | None = None,
        precision: Precision = "float32",
    ) -> Scorer:
        """A scorer for a model file that ``egl-fast train`` wrote.

        Args:
            path: the model file.
            device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if one can be used.
            memory_bytes: see the class.
            precision: see the class.

        Raises:
            CheckpointError: the file is missing, damaged, or not an egl-fast checkpoint.
            DeviceError: the device is unknown, or cannot be used here.
        """
        recognizer = checkpoint.load(path, device=usable_device(device))
        return cls(recognizer, memory_bytes=memory_bytes, precision=precision)

    @classmethod
    def from_pretrained(
        cls,
        spec: str,
        *,
        device: str | torch.device = "cpu",
        params: str | None = None,
        memory_bytes: int | None = None,
        precision: Precision = "float32",
    ) -> Scorer:
        """A scorer for any model that ``--model`` takes.

        Args:
            spec: a file that ``egl-fast train`` wrote, ``hf:DIR``, ``nemo:FILE.nemo``,
                ``path.py:factory`` or ``package.module:factory``; see docs/your-model.md. The last
                two run the code they name.
            device: "cpu", "cuda", "cuda:1", or "auto" for a GPU if one can be used.
            params: see the class.
            memory_bytes: see the class.
            precision: see the class.

        Raises:
            EglError: the model is missing, damaged, or no CTC model; or something that it takes is
                missing, such as a package or its processor.
        """
        recognizer = load_recognizer(spec, device=usable_device(device))
        return cls(recognizer, params=params, memory_bytes=memory_bytes, precision=precision)

    @takes_scoring_options
    def score_batch(
        self,
        *model_inputs: Any,
        ids: Sequence[str] | None = None,
        durations: Sequence[float] | None = None,
        **named: Any,
    ) -> list[ScoreRecord]:
        """Scores of a batch of the model's own inputs.

        In an unknown model, activations cannot be assigned to utterances. So unless the model
        declares ``utterances_first``, utterances run one at a time: tensors whose first dimension
        is N are sliced, anything else is passed whole, and padding that lengths [N] or a mask
        [N, S] tell of is cut off. N is the number of lengths that the model returns.

        Args:
            *model_inputs: positional arguments of the model's call.
            ids: N names; "0", "1", ... if not given.
            durations: N lengths in seconds, for the records; 0 if not given.
            **named: options, see ``ScoringOptions``; anything else is a named argument of the
                model's call.

        Returns:
            N records, in order.

        Raises:
            ModelError: the model's outputs do not fit; the message names the utterance, if it is
                only one.
            ValueError: an option is out of range.
        """
        options, named_inputs = split_keywords(named)
        inputs = ModelInputs(model_inputs, named_inputs)
        return score_inputs(self._task(options), inputs, ids=ids, durations=durations)

    @takes_scoring_options
    def score_waveforms(
        self,
        waveforms: Sequence[Any],
        *,
        sample_rate_hz: int,
        ids: Sequence[str] | None = None,
        batch_seconds: float | None = None,
        progress: bool = False,
        **options: Unpack[ScoringKeywords],
    ) -> list[ScoreRecord]:
        """Scores of waveforms in memory.

        Args:
            waveforms: [S] or [S, channels] each, a tensor, an array or a list: floats of full
                scale 1, or integers, scaled by their type's range (uint8 is silent at 128). Also
                (samples, rate), or the audio column of a Hugging Face dataset, which have their
                own rate; see ``mono_waveform``.
            sample_rate_hz: the rate of all others; resampled to the model's if that differs.
            ids: their names; "0", "1", ... if not given.
            batch_seconds: padded audio that shares a forward pass; None: 8, on a GPU 160.
            progress: show a bar (``tqdm.auto``).
            **options: see ``ScoringOptions``.

        Returns:
            One record per waveform, in order.

        Raises:
            AudioError: a waveform is empty, too short, contains NaN, or has an ambiguous scale;
                the message says how to fix it.
            ModelError: the scorer has no features, or the model's outputs do not fit.
        """
        task = self._task(ScoringOptions(**options))
        front_end = self.recognizer.required_front_end()
        if isinstance(waveforms, Mapping):
            raise ValueError("waveforms: expected a list of recordings, got one; put it in a list")
        waveforms = list(waveforms)
        names = names_of(ids, len(waveforms))
        recordings = []
        for name, waveform in zip(names, waveforms, strict=True):
            mono = mono_waveform(
                waveform,
                rate_hz=sample_rate_hz,
                to_rate_hz=front_end.sample_rate_hz,
                name=f"waveform {name!r}",
            )
            recordings.append(front_end.prepare(mono, name=f"waveform {name!r}"))
        seconds = self.default_batch_seconds if batch_seconds is None else batch_seconds
        scoring = BatchScoring(task, recordings, names, limit=BatchLimit(seconds))
        return scoring.records(progress=progress)

    @takes_scoring_options
    def score_manifest(
        self,
        manifest: Pool,
        *,
        on_error: Literal["raise", "skip"] = "raise",
        batch_seconds: float | None = None,
        max_duration: float | None = None,
        read_timeout: float | None = READ_TIMEOUT_SECONDS,
        progress: bool = False,
        **options: Unpack[ScoringKeywords],
    ) -> Iterator[ScoreRecord]:
        """Scores of a manifest's utterances, or of rows of any kind, one by one, in their order.

        Args:
            manifest: the path of NeMo-style JSONL, see ``read_manifest``; or rows with the same
                keys: a DataFrame of pandas or polars, or mappings, which may come from a generator.
                In place of ``audio_filepath``, rows may have ``audio``, the recording itself, as
                those of Hugging Face's data sets do; see ``utterances_in``.
            on_error: "raise", or "skip" to leave out utterances that cannot be scored.
            batch_seconds: padded audio that shares a forward pass; None: 8, on a GPU 160.
            max_duration: refuse recordings longer than this many seconds.
            read_timeout: seconds that reading and decoding one may take; None: forever.
            progress: show a bar (``tqdm.auto``).
            **options: see ``ScoringOptions``.

        Returns:
            An iterator of records, each with the other keys of its line or row in
            ``record.manifest``. Audio is decoded ahead in the background.

        Raises:
            ValueError: an option is out of range.
            ManifestError: the manifest is missing or malformed. A malformed row is met when its
                turn comes.
            AudioError: a recording cannot be read, unless skipped.
            ModelError: the model's outputs do not fit, unless skipped.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: expected 'raise' or 'skip', got {on_error!r}")
        scoring = pool_scoring(
            self,
            ScoringOptions(**options),
            batch_seconds=batch_seconds,
            limits=ReadingLimits(max_duration, read_timeout),
        )
        found = in_order(scoring.outcomes(utterances_in(manifest)))
        outcomes: Iterable[Outcome] = found
        if progress:
            outcomes = counted(outcomes, known_length(manifest), description="scoring")

        # Its own generator, so that a wrong argument is refused at the call, not at `next()`.
        def records() -> Iterator[ScoreRecord]:
            with closing(found):  # so that no thread keeps reading after an error
                for outcome in outcomes:
                    if isinstance(outcome.result, ScoreRecord):
                        yield replace(outcome.result, manifest=outcome.utterance.record)
                    elif on_error == "raise":
                        raise outcome.result

        return records()

    def _task(self, options: ScoringOptions) -> ScoringTask:
        if options.params is None:
            options = replace(options, params=self.params)
        options.refuse_more_than_fits(self.recognizer.dtype)
        # Engines are kept: each verifies a set of parameters against autograd once.
        if options.params not in self._engines:
            self._engines[options.params] = GradientEngine(
                self.model,
                params=self.recognizer.pattern(options.params),
                memory_bytes=self.memory_bytes,
                precision=self.precision,
            )
        if options.mc_dropout:
            dropout_modules(self.model)  # refuses it here, not after the first recording
        return ScoringTask(
            self._engines[options.params],
            self.recognizer,
            options,
            plausibility=self._plausibility,
        )


def pool_scoring(
    scorer: Scorer,
    options: ScoringOptions,
    *,
    batch_seconds: float | None = None,
    limits: ReadingLimits | None = None,
    embeds: bool = False,
) -> PoolScoring:
    """What ``score_manifest`` does, unit by unit, for callers that keep what is finished.

    With ``embeds``, outcomes have embeddings, too.

    Raises:
        ModelError: the scorer has no features, or a pattern of ``params`` matches nothing.
    """
    scorer.recognizer.required_front_end()
    return PoolScoring(
        replace(scorer._task(options), embeds=embeds),
        scorer.default_batch_seconds if batch_seconds is None else batch_seconds,
        limits or ReadingLimits(),
    )
