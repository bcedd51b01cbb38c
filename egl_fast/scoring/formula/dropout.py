"""Monte Carlo dropout: how far transcripts with dropout are from the one without.

Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016; here, a committee of
transcripts whose members are drawn from one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, groupby

import jiwer
import numpy as np
import torch
from torch import Tensor, nn

from egl_fast.errors import ModelError
from egl_fast.gradients.running import alone
from egl_fast.gradients.tape import Tape
from egl_fast.hashing import hashed
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.task import ScoringTask


def dropout_modules(model: nn.Module) -> dict[str, nn.Dropout]:
    """Modules that drop anything, by name.

    Raises:
        ModelError: there is none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Dropout and module.p > 0  # a subclass may drop something else
    }
    if not found:
        raise ModelError(
            "mc_dropout: the model has no torch.nn.Dropout that drops anything; train one with "
            "dropout, or leave this out"
        )
    return found


def dropout_disagreement(task: ScoringTask, tape: Tape, ids: Sequence[str]) -> list[float]:
    """Each utterance's mean distance from transcripts with dropout to the one without, in [0, 1].

    Transcripts are best paths, collapsed; a distance is the number of character edits over the
    length of the longer. There are ``options.mc_dropout`` transcripts, each by one inference pass.

    Raises:
        ModelError: the model has no dropout.
    """
    engine, options = task.engine, task.options
    modules = dropout_modules(engine.model)
    own = _transcripts(task, tape.outputs, ids)
    totals = [0.0] * len(ids)
    for number in range(options.mc_dropout):
        keys = [f"{options.seed} {number} {name}" for name in ids]
        with alone(engine.model), _dropping(modules, keys):
            outputs = engine.infer(*tape.inputs.positional, **tape.inputs.named)
        for n, text in enumerate(_transcripts(task, outputs, ids)):
            totals[n] += edit_distance(own[n], text)
    return [total / options.mc_dropout for total in totals]


def edit_distance(one: str, other: str) -> float:
    """Character edits over the length of the longer text; 0 if both are empty.

    As in error rates, spaces at the ends do not count.
    """
    one, other = one.strip(), other.strip()
    longer = max(len(one), len(other))
    if not one or not other:
        return float(longer > 0)
    edits = jiwer.process_characters(one, other)
    return (edits.substitutions + edits.deletions + edits.insertions) / longer


def _transcripts(task: ScoringTask, outputs: object, ids: Sequence[str]) -> list[str]:
    classes = task.classes
    logits, lengths = model_outputs(outputs, ids=ids, num_classes=len(classes.vocabulary))
    paths = logits.detach().argmax(dim=2).tolist()
    return [
        classes.text(c for c, _ in groupby(path[:end]) if c != classes.blank)
        for path, end in zip(paths, lengths.tolist(), strict=True)
    ]


@contextmanager
def _dropping(modules: dict[str, nn.Dropout], keys: Sequence[str]) -> Iterator[None]:
    """Drop inputs of these modules, in evaluation mode, while the context is open."""
    for name, module in modules.items():
        module.__dict__["forward"] = _dropout(module.p, [f"{name} {key}" for key in keys])
    try:
        yield
    finally:
        for module in modules.values():
            del module.__dict__["forward"]


def _dropout(probability: float, keys: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """A forward of ``nn.Dropout``, with separate random numbers for each utterance and call.

    In a layout [N, T, ...] the numbers of an utterance's frames come first, so that padding and
    neighbors change nothing. Nor do threads or the device.
    """
    calls = count()

    def forward(x: Tensor) -> Tensor:
        call = next(calls)
        rows = x if len(keys) > 1 else x[None]  # one utterance alone may have any layout
        kept = np.stack([_stream(key, call).random(rows.shape[1:]) >= probability for key in keys])
        scale = torch.from_numpy(kept).to(x.device, x.dtype) / max(1 - probability, 1e-30)
        return x * scale.view(x.shape)

    return forward


def _stream(key: str, call: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(int.from_bytes(hashed(key, call)[:16], "big")))
