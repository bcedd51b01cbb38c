"""Rankings from the hidden text, which nobody could have in practice."""

from __future__ import annotations

import torch

from egl_fast import ops
from egl_fast.data.manifest import Utterance
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.run.pool import PoolScoring
from egl_fast.training.metrics import count_edits
from egl_fast.training.texts import reference_labels


def oracle_cer(utterance: Utterance, heard: str) -> float:
    """Character errors of a transcript, per character; the number of errors if nothing was said."""
    edits = count_edits(utterance.text or "", heard)
    return edits.char_edits / max(1, edits.chars)


def oracle_gradient(scoring: PoolScoring, utterance: Utterance) -> float:
    """The squared length of the loss gradient for the true text, whose expectation ``egl`` is.

    Args:
        scoring: the model, and which parameters count.
        utterance: with its text.

    Raises:
        AudioError: the recording cannot be read.
        ManifestError: the text is missing, or not in the model's vocabulary.
        ModelError: the model's outputs do not fit.
    """
    engine, recognizer = scoring.task.engine, scoring.task.recognizer
    classes = recognizer.classes
    labels = reference_labels(utterance, classes)
    inputs = recognizer.inputs([recognizer.load(utterance)])
    tape = engine.run(*inputs.positional, **inputs.named)
    logits, num_frames = model_outputs(
        tape.outputs, ids=[utterance.id], num_classes=len(classes.vocabulary)
    )
    truth = ops.Hypotheses.of([[tuple(labels)]]).to(engine.device)
    _, cotangents = ops.ctc_logits_cotangents(
        logits.detach().double().log_softmax(2),
        num_frames.to(engine.device),
        truth,
        blank=classes.blank,
    )
    norms = engine.sq_norms(tape, cotangents.to(logits.dtype))
    return float(torch.stack(list(norms.values())).sum())
