"""Transcribed recordings, checked before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from egl_fast.checkpoint import Checkpoint
from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import Utterance
from egl_fast.data.reading import decoders_beside, read_ahead
from egl_fast.errors import EglError, ManifestError
from egl_fast.hashing import hashed
from egl_fast.recognizers.checkpoint import classes_of
from egl_fast.training.processes import Processes
from egl_fast.training.texts import all_labels, frames_needed


@dataclass(frozen=True)
class Example:
    """An utterance ready for training.

    Attributes:
        utterance: the manifest's line.
        labels: its text as class indices.
        seconds: length of its audio.
    """

    utterance: Utterance
    labels: list[int]
    seconds: float


class LeftOut(NamedTuple):
    """An utterance that cannot be trained on, and why."""

    utterance: Utterance
    error: EglError


class Prepared(NamedTuple):
    """What can be used of a manifest, and what cannot."""

    examples: list[Example]
    left_out: list[LeftOut]


def prepare_examples(
    utterances: Sequence[Utterance],
    checkpoint: Checkpoint,
    *,
    advance: Callable[[], None] = lambda: None,
    processes: Processes = Processes(),  # noqa: B008 (a constant)
) -> Prepared:
    """Decode every recording once, and check every text against vocabulary and frames.

    A manifest's ``duration`` and a file's header may be wrong, so the decoded length counts.

    Args:
        utterances: lines of a manifest.
        checkpoint: the model to train, its features and vocabulary.
        advance: called after each recording that this process decodes.
        processes: the processes that prepare the same utterances; each decodes its share.

    Returns:
        Examples in the order of ``utterances``, except those whose audio cannot be read or has
        fewer frames than the text needs.

    Raises:
        ManifestError: see ``texts.all_labels``.
    """
    labels = all_labels(utterances, classes_of(checkpoint))
    device = next(checkpoint.model.parameters()).device

    def measure(utterance: Utterance) -> tuple[float, int]:
        spectrogram = load_spectrogram(utterance, checkpoint.features)
        return spectrogram.seconds, spectrogram.features.shape[0]

    def measured() -> Iterator[tuple[float, int] | EglError]:
        share = processes.share(utterances)
        for found in read_ahead(measure, share, num_threads=decoders_beside(device)):
            yield found
            advance()

    examples: list[Example] = []
    left_out: list[LeftOut] = []
    lengths = processes.joined(measured())
    for utterance, row, found in zip(utterances, labels, lengths, strict=True):
        if isinstance(found, EglError):
            left_out.append(LeftOut(utterance, found))
        else:
            seconds, num_input_frames = found
            example = Example(utterance, row, seconds)
            frames = checkpoint.model.num_output_frames(num_input_frames)
            try:
                refuse_misfit(example, frames)
                examples.append(example)
            except ManifestError as misfit:
                left_out.append(LeftOut(utterance, misfit))
    return Prepared(examples, left_out)


def examples_of_length(
    utterances: Sequence[Utterance], seconds: Iterable[float], checkpoint: Checkpoint
) -> list[Example]:
    """Examples of recordings of known length; nothing is decoded.

    Raises ``ManifestError``, naming the utterance, if a text is missing, has a character outside
    the vocabulary, or needs more frames than the audio has.
    """
    examples = []
    rows = all_labels(utterances, classes_of(checkpoint))
    for utterance, row, length in zip(utterances, rows, seconds, strict=True):
        example = Example(utterance, row, length)
        samples = int(length * checkpoint.features.sample_rate_hz)
        frames = checkpoint.model.num_output_frames(checkpoint.features.num_frames(samples))
        refuse_misfit(example, frames)
        examples.append(example)
    return examples


def digest(*sets: Sequence[Example]) -> str:
    """A hash of what a run trains and validates on: the utterances, and their lengths."""
    facts = [[(e.utterance.id, e.seconds) for e in examples] for examples in sets]
    return hashed(json.dumps(facts)).hex()


def refuse_misfit(example: Example, frames: int) -> None:
    """Raise ``ManifestError`` if a text needs more than the ``frames`` of logits of its audio."""
    needed = frames_needed(example.labels)
    if frames > 0 and needed <= frames:
        return
    utterance = example.utterance
    promised = utterance.duration_seconds
    said = "" if promised is None else f", of {promised:g} s in the manifest"
    raise ManifestError(
        f"{utterance.name}: its text needs {needed} frames, the "
        f"audio ({example.seconds:.2f} s{said}) gives {frames}; remove it or fix its text"
    )
