"""What a model makes of utterances: transcripts, CTC loss, character and word error rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import jiwer
import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.checkpoint import Checkpoint
from egl_fast.data.batching import length_batches
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance
from egl_fast.data.prefetch import decoders_beside, prefetch
from egl_fast.errors import ManifestError, ModelError
from egl_fast.precision import products_in
from egl_fast.vocabulary import decode, encode

#: Utterances among which batches of like length are formed, and that are transcribed together.
WINDOW_UTTERANCES = 64


@dataclass(frozen=True)
class Transcript:
    """What a model made of one utterance.

    Attributes:
        utterance: the manifest's line.
        seconds: length of its audio.
        text: the most probable alignment, collapsed ("greedy" decoding).
        loss: -log p(reference | audio) in nats, infinite where the reference needs more frames
            than there are; None unless asked for.
    """

    utterance: Utterance
    seconds: float
    text: str
    loss: float | None


@dataclass(frozen=True)
class EditCounts:
    """Levenshtein distances from references, and what they are to be divided by.

    Attributes:
        char_edits: characters substituted, deleted and inserted.
        chars: characters of the references.
        word_edits: words substituted, deleted and inserted.
        words: words of the references.
    """

    char_edits: int
    chars: int
    word_edits: int
    words: int


@dataclass(frozen=True)
class ErrorRates:
    """Totals over a set of utterances.

    Attributes:
        loss: mean CTC loss an utterance, nats, over those where it is finite; NaN where it is
            finite for none.
        cer: character edits / reference characters.
        wer: word edits / reference words.
        num_utterances: how many there were.
        num_infinite: how many of them have an infinite loss.
    """

    loss: float
    cer: float
    wer: float
    num_utterances: int
    num_infinite: int


def reference_labels(utterance: Utterance, vocabulary: Sequence[str]) -> list[int]:
    """The class indices of an utterance's text.

    Raises:
        ManifestError: it has no text, or a character that the vocabulary lacks; the message
            names the utterance and its line.
    """
    where = f"utterance {utterance.id!r} (line {utterance.line})"
    if utterance.text is None:
        raise ManifestError(f"{where}: has no 'text'; add its transcript, \"\" for no speech")
    try:
        return encode(utterance.text, vocabulary)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None


def transcribe(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    with_loss: bool = False,
) -> Iterator[list[Transcript]]:
    """Transcripts in batches of like length, over windows of the input order.

    Args:
        checkpoint: the model, in evaluation mode.
        utterances: what to transcribe.
        batch_seconds: bound on the padded audio of a batch.
        with_loss: compute the CTC loss of each utterance's text, too.

    Yields:
        One list a window of ``WINDOW_UTTERANCES``, in the order of ``utterances``.

    Raises:
        AudioError: an utterance cannot be read.
        ManifestError: see ``reference_labels``; only ``with_loss``.
        ModelError: the logits of an utterance are NaN or infinite.
    """
    model = checkpoint.model
    device = next(model.parameters()).device
    window: list[tuple[Utterance, Tensor, float]] = []

    def load(utterance: Utterance) -> tuple[Utterance, Tensor, float]:
        spectrogram = load_spectrogram(utterance, checkpoint.features)
        return utterance, spectrogram.features, spectrogram.seconds

    def flush() -> list[Transcript]:
        done: list[Transcript | None] = [None] * len(window)
        for batch in length_batches([item[2] for item in window], batch_seconds=batch_seconds):
            with torch.inference_mode(), products_in("float32", device):
                features, lengths = pad_features([window[i][1] for i in batch], device=device)
                logits, num_frames = model(features, lengths)
            log_probs = logits.double().log_softmax(dim=2).cpu()
            for row, i in enumerate(batch):
                utterance, _, seconds = window[i]
                rows = log_probs[row, : int(num_frames[row])]
                # One that is -inf rules a class out; a frame needs one that is not.
                if not rows.amax(dim=1).isfinite().all():
                    raise ModelError(
                        f"utterance {utterance.id!r}: the model's logits are NaN or infinite; "
                        "give another model"
                    )
                loss = None
                if with_loss:
                    loss = _ctc_loss(rows, reference_labels(utterance, checkpoint.vocabulary))
                text = decode(_greedy(rows), checkpoint.vocabulary)
                done[i] = Transcript(utterance, seconds, text, loss)
        window.clear()
        return [transcript for transcript in done if transcript is not None]

    for item in prefetch(load, utterances, num_threads=decoders_beside(device)):
        window.append(item)
        if len(window) == WINDOW_UTTERANCES:
            yield flush()
    if window:
        yield flush()


def error_rates(transcripts: Sequence[Transcript]) -> ErrorRates:
    """Totals over transcripts that all have a reference.

    Insertions into empty references count; with nothing but empty references a rate is edits
    per utterance instead. An infinite loss belongs to a reference that cannot be aligned,
    whatever the model: it would hide all others, so it is counted apart.
    """
    counts = [count_edits(t.utterance.text or "", t.text) for t in transcripts]
    losses = [t.loss for t in transcripts if t.loss is not None]
    finite = [loss for loss in losses if math.isfinite(loss)]
    return ErrorRates(
        loss=sum(finite) / len(finite) if finite else math.nan,
        cer=sum(c.char_edits for c in counts) / (sum(c.chars for c in counts) or len(counts)),
        wer=sum(c.word_edits for c in counts) / (sum(c.words for c in counts) or len(counts)),
        num_utterances=len(transcripts),
        num_infinite=len(losses) - len(finite),
    )


def count_edits(reference: str, hypothesis: str) -> EditCounts:
    """How far a hypothesis is from its reference, over characters and over words (jiwer).

    Spaces between words are characters; those at the ends of either text count for nothing.

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
