"""A model's results on utterances: transcripts, CTC loss, character and word error rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import jiwer
import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.compute.memory import is_out_of_memory
from egl_fast.compute.precision import matmul_precision
from egl_fast.data.batching import length_batches
from egl_fast.data.manifest import Utterance
from egl_fast.data.reading import decoders_beside, read_ahead
from egl_fast.errors import EglError, ModelError, one_line
from egl_fast.gradients.model_call import call_model
from egl_fast.progress import counted
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.recognizers.recognizer import Recognizer
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.training.texts import reference_labels

#: Batches of similar length are formed within windows of this many utterances.
WINDOW_UTTERANCES = 64


@dataclass(frozen=True)
class Transcript:
    """A model's result on one utterance.

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
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    with_loss: bool = False,
    on_error: Callable[[Utterance, EglError], None] | None = None,
    progress: bool = False,
) -> Iterator[list[Transcript]]:
    """Transcripts, computed in batches of similar length within windows of the input order.

    A model that does not declare ``utterances_first`` runs one utterance at a time, since padding
    may affect its logits.

    Args:
        recognizer: the model, in evaluation mode.
        utterances: what to transcribe.
        batch_seconds: bound on the padded audio of a batch.
        with_loss: also compute the CTC loss of each utterance's text.
        on_error: called for each utterance that fails, in order, while the others continue. None:
            the first failure is raised.
        progress: show a bar (``tqdm.auto``).

    Yields:
        One list per window of ``WINDOW_UTTERANCES``, in the order of ``utterances``, without those
        that failed.

    Raises:
        AudioError: an utterance cannot be read.
        ModelError: the model fails on an utterance, or its logits are NaN or infinite.
        ManifestError: see ``texts.reference_labels``; only ``with_loss``.
    """
    recognizer.required_front_end()
    loaded = read_ahead(recognizer.load, utterances, num_threads=decoders_beside(recognizer.device))
    starts = range(0, len(utterances), WINDOW_UTTERANCES)
    windows: Iterable[Sequence[Utterance]] = (utterances[n : n + WINDOW_UTTERANCES] for n in starts)
    if progress:
        windows = counted(windows, len(utterances), description="transcribing", size=len)
    for window in windows:
        recordings = list(islice(loaded, len(window)))
        results = _transcripts(recognizer, window, recordings, batch_seconds, with_loss=with_loss)
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
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    loaded: Sequence[RecordingInput | EglError],
    batch_seconds: float,
    *,
    with_loss: bool,
) -> list[Transcript | EglError]:
    readable = {i: one for i, one in enumerate(loaded) if isinstance(one, RecordingInput)}
    done: dict[int, Transcript | EglError] = {
        i: one for i, one in enumerate(loaded) if isinstance(one, EglError)
    }
    places = list(readable)
    seconds = [readable[i].seconds for i in places]
    batches = length_batches(seconds, batch_seconds=batch_seconds)
    if not recognizer.shares_batches:
        batches = [[i] for batch in batches for i in batch]
    for batch in batches:
        members = [places[i] for i in batch]
        names = [utterances[i].id for i in members]
        try:
            log_probs = _log_probs(recognizer, [readable[i] for i in members], names)
        except ModelError as error:
            # For a batch, only what the model does to all of its utterances.
            done |= dict.fromkeys(members, error)
            continue
        for rows, i in zip(log_probs, members, strict=True):
            # -inf rules a class out; every frame needs another class.
            if not rows.amax(dim=1).isfinite().all():
                done[i] = ModelError(
                    f"utterance {utterances[i].id!r}: the model's logits are NaN or infinite"
                )
                continue
            classes = recognizer.classes
            loss = None
            if with_loss:
                labels = reference_labels(utterances[i], classes)
                loss = _ctc_loss(rows, labels, blank=classes.blank)
            text = classes.text(_greedy(rows, blank=classes.blank))
            done[i] = Transcript(utterances[i], readable[i].seconds, text, loss, rows.shape[0])
    return [done[i] for i in range(len(utterances))]


def _log_probs(
    recognizer: Recognizer, recordings: Sequence[RecordingInput], names: Sequence[str]
) -> list[Tensor]:
    """Logits [T_n, C] float64 on the CPU, per recording; a single one is checked as in scoring."""
    try:
        with torch.inference_mode(), matmul_precision("float32", recognizer.device):
            outputs = call_model(recognizer.module, recognizer.inputs(recordings))
    except EglError:
        raise
    except Exception as error:
        if recognizer.shares_batches or is_out_of_memory(error):
            raise
        raise ModelError(
            f"utterance {names[0]!r}: failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    logits, lengths = model_outputs(
        outputs,
        ids=names if len(names) == 1 else None,
        num_classes=len(recognizer.classes.vocabulary),
    )
    log_probs = logits.double().log_softmax(dim=2).cpu()
    return [log_probs[n, :length] for n, length in enumerate(lengths.tolist())]


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
    """A mean loss for display; a dash if there is none."""
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


def _greedy(log_probs: Tensor, *, blank: int) -> list[int]:
    best: list[int] = log_probs.argmax(dim=1).tolist()
    return [label for label, _ in groupby(best) if label != blank]


def _ctc_loss(log_probs: Tensor, labels: Sequence[int], *, blank: int) -> float:
    loss = F.ctc_loss(
        log_probs.unsqueeze(1),
        torch.tensor([labels], dtype=torch.int64),
        torch.tensor([log_probs.shape[0]]),
        torch.tensor([len(labels)]),
        blank=blank,
        reduction="sum",
    )
    return float(loss)
