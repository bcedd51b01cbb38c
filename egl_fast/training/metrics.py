"""What a model makes of utterances: transcripts, CTC loss, character and word error rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import jiwer
import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.checkpoint import Checkpoint
from egl_fast.compute.precision import matmul_precision
from egl_fast.data.batching import length_batches
from egl_fast.data.loading import Spectrogram, load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance
from egl_fast.data.reading import decoders_beside, read_ahead
from egl_fast.errors import EglError, ModelError
from egl_fast.training.texts import reference_labels
from egl_fast.vocabulary import decode

#: Batches of similar length are formed within windows of this many utterances.
WINDOW_UTTERANCES = 64


@dataclass(frozen=True)
class Transcript:
    """What a model made of one utterance.

    Attributes:
        utterance: the manifest's line.
        seconds: length of its audio.
        text: the most probable alignment, collapsed ("greedy" decoding).
        loss: -log p(reference | audio) in nats, infinite if the reference needs more frames than
            there are; None unless requested.
        num_frames: frames of logits.
    """

    utterance: Utterance
    seconds: float
    text: str
    loss: float | None
    num_frames: int


@dataclass(frozen=True)
class EditCounts:
    """Levenshtein distances from references, and the references' lengths.

    Edits are substitutions, deletions, and insertions.
    """

    char_edits: int
    chars: int
    word_edits: int
    words: int


@dataclass(frozen=True)
class ErrorRates:
    """Totals over a set of utterances.

    Attributes:
        loss: mean of the finite CTC losses per utterance, in nats; None if there is none.
        cer: character edits / reference characters; None without utterances.
        wer: word edits / reference words; None without utterances.
        num_utterances: number of utterances.
        num_infinite: number of infinite losses.
    """

    loss: float | None
    cer: float | None
    wer: float | None
    num_utterances: int
    num_infinite: int


def transcribe(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    with_loss: bool = False,
    on_error: Callable[[Utterance, EglError], None] | None = None,
) -> Iterator[list[Transcript]]:
    """Transcripts, computed in batches of similar length within windows of the input order.

    Args:
        checkpoint: the model, in evaluation mode.
        utterances: what to transcribe.
        batch_seconds: bound on the padded audio of a batch.
        with_loss: also compute the CTC loss of each utterance's text.
        on_error: called for each utterance that fails, in order, while the others continue. None:
            the first failure is raised.

    Yields:
        One list per window of ``WINDOW_UTTERANCES``, in the order of ``utterances``, without those
        that failed.

    Raises:
        AudioError: an utterance cannot be read.
        ModelError: the logits of an utterance are NaN or infinite.
        ManifestError: see ``texts.reference_labels``; only ``with_loss``.
    """
    device = next(checkpoint.model.parameters()).device
    loaded = read_ahead(
        lambda utterance: load_spectrogram(utterance, checkpoint.features),
        utterances,
        num_threads=decoders_beside(device),
    )
    for start in range(0, len(utterances), WINDOW_UTTERANCES):
        window = utterances[start : start + WINDOW_UTTERANCES]
        audio = list(islice(loaded, len(window)))
        results = _transcripts(checkpoint, window, audio, batch_seconds, with_loss=with_loss)
        transcripts = []
        for utterance, result in zip(window, results, strict=True):
            if isinstance(result, Transcript):
                transcripts.append(result)
            elif on_error is None:
                raise result
            else:
                on_error(utterance, result)
        yield transcripts


def _transcripts(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    audio: Sequence[Spectrogram | EglError],
    batch_seconds: float,
    *,
    with_loss: bool,
) -> list[Transcript | EglError]:
    device = next(checkpoint.model.parameters()).device
    readable = {i: found for i, found in enumerate(audio) if isinstance(found, Spectrogram)}
    done: dict[int, Transcript | EglError] = {
        i: found for i, found in enumerate(audio) if isinstance(found, EglError)
    }
    places = list(readable)
    seconds = [readable[i].seconds for i in places]
    for batch in length_batches(seconds, batch_seconds=batch_seconds):
        members = [places[i] for i in batch]
        with torch.inference_mode(), matmul_precision("float32", device):
            features, lengths = pad_features([readable[i].features for i in members], device=device)
            logits, num_frames = checkpoint.model(features, lengths)
        log_probs = logits.double().log_softmax(dim=2).cpu()
        for row, i in enumerate(members):
            rows = log_probs[row, : int(num_frames[row])]
            # -inf rules a class out; every frame needs another class.
            if not rows.amax(dim=1).isfinite().all():
                done[i] = ModelError(
                    f"utterance {utterances[i].id!r}: the model's logits are NaN or infinite"
                )
                continue
            loss = None
            if with_loss:
                loss = _ctc_loss(rows, reference_labels(utterances[i], checkpoint.vocabulary))
            text = decode(_greedy(rows), checkpoint.vocabulary)
            done[i] = Transcript(utterances[i], readable[i].seconds, text, loss, rows.shape[0])
    return [done[i] for i in range(len(utterances))]


def error_rates(transcripts: Sequence[Transcript]) -> ErrorRates:
    """Totals over transcripts that all have a reference.

    Insertions into empty references count; if all references are empty, a rate is edits per
    utterance. An infinite loss, of a reference that cannot be aligned, would hide all others, so it
    is counted separately.
    """
    counts = [count_edits(t.utterance.text or "", t.text) for t in transcripts]
    losses = [t.loss for t in transcripts if t.loss is not None]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return ErrorRates(
        loss=_ratio(sum(finite), len(finite)),
        cer=_ratio(sum(c.char_edits for c in counts), sum(c.chars for c in counts) or len(counts)),
        wer=_ratio(sum(c.word_edits for c in counts), sum(c.words for c in counts) or len(counts)),
        num_utterances=len(transcripts),
        num_infinite=len(losses) - len(finite),
    )


def _ratio(total: float, count: int) -> float | None:
    # None, not NaN, which JSON lacks, comparisons get wrong, and types do not show.
    return total / count if count else None


def in_nats(loss: float | None) -> str:
    """A mean loss for people; a dash if there is none."""
    return "-" if loss is None else f"{loss:.2f}"


def count_edits(reference: str, hypothesis: str) -> EditCounts:
    """A hypothesis's distance from its reference, in characters and words (jiwer).

    Spaces between words are characters; those at the ends of a text are ignored.

    Example:
        >>> count_edits("set red", "see read ")
        EditCounts(char_edits=2, chars=7, word_edits=2, words=2)
    """
    char_edits, chars = _edits_and_length(jiwer.process_characters(reference, hypothesis))
    word_edits, words = _edits_and_length(jiwer.process_words(reference, hypothesis))
    return EditCounts(char_edits, chars, word_edits, words)


def _edits_and_length(output: jiwer.CharacterOutput | jiwer.WordOutput) -> tuple[int, int]:
    lost = output.substitutions + output.deletions
    return lost + output.insertions, output.hits + lost


def _greedy(log_probs: Tensor) -> list[int]:
    best: list[int] = log_probs.argmax(dim=1).tolist()
    return [label for label, _ in groupby(best) if label != 0]


def _ctc_loss(log_probs: Tensor, labels: Sequence[int]) -> float:
    loss = F.ctc_loss(
        log_probs.unsqueeze(1),
        torch.tensor([labels], dtype=torch.int64),
        torch.tensor([log_probs.shape[0]]),
        torch.tensor([len(labels)]),
        reduction="sum",
    )
    return float(loss)
