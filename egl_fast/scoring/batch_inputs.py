"""Scores of a batch of a model's own inputs, whose utterances may have to run one at a time.

In an unknown model, activations cannot be assigned to utterances. So each utterance is cut out of
the batch, without its padding where something tells how long it is, and runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from egl_fast.compute.devices import computes_on
from egl_fast.compute.memory import is_out_of_memory
from egl_fast.gradients.model_call import ModelInputs
from egl_fast.gradients.tape import Tape
from egl_fast.records import ScoreRecord
from egl_fast.scoring.arguments import durations_of, names_of
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.formula.record import pull_back, without_gradients
from egl_fast.scoring.formula.search import search
from egl_fast.scoring.task import ScoringTask
from egl_fast.warning import warn


def score_inputs(
    task: ScoringTask,
    inputs: ModelInputs,
    *,
    ids: Sequence[str] | None,
    durations: Sequence[float] | None,
) -> list[ScoreRecord]:
    """What ``Scorer.score_batch`` returns."""
    _refuse_unusable(inputs)
    engine = task.engine
    tape = None
    if engine.shares_batches or _may_be_one_utterance(inputs):
        tape = task.run(*inputs.positional, **inputs.named)
        together = tape.outputs
    else:
        together = engine.infer(*inputs.positional, **inputs.named)
    num_classes = len(task.recognizer.classes.vocabulary)
    logits, lengths = model_outputs(together, ids=None, num_classes=num_classes)
    num_utterances = logits.shape[0]
    names = names_of(ids, num_utterances)
    seconds = durations_of(durations, num_utterances)

    def score(tape: Tape, group: Sequence[int]) -> list[ScoreRecord]:
        ids, durations = [names[n] for n in group], [seconds[n] for n in group]
        if not task.options.chosen_method.pulls_back:
            found = without_gradients(task, tape, ids=ids, durations=durations)
            return [record for record, _ in found]
        return pull_back(task, tape, search(task, tape, ids=ids, durations=durations))

    if tape is not None and (engine.shares_batches or num_utterances == 1):
        return score(tape, range(num_utterances))
    _warn_of_unmarked_padding(inputs, lengths)
    records: list[ScoreRecord] = []
    for n in range(num_utterances):
        tape = _run_alone(task, inputs, n, lengths)
        records += score(tape, [n])
        _compare_with_batch(tape.outputs, together, n, names[n])
        del tape  # or its activations would stay until the next ones are computed
    return records


def _run_alone(task: ScoringTask, inputs: ModelInputs, n: int, lengths: Tensor) -> Tape:
    """Run one utterance of a batch alone, and without its padding if the model allows that."""
    own = _unpadded(inputs, n, len(lengths))
    if own is not None:
        try:
            tape = task.run(*own.positional, **own.named)
            if int(tape.outputs[1][0]) == int(lengths[n]):
                return tape
        except (ValueError, RuntimeError, AssertionError) as error:  # models may insist on a size
            if is_out_of_memory(error):
                raise
    own = _sliced(inputs, n, len(lengths))
    return task.run(*own.positional, **own.named)


def _refuse_unusable(inputs: ModelInputs) -> None:
    """Refuse tensors without values, or that do not store one value per element.

    Raises:
        ValueError: the message names the input, and what to give instead.
    """
    for key, x in inputs.items():
        for tensor in tree_leaves(x):
            if not isinstance(tensor, Tensor):
                continue
            if not computes_on(tensor.device):
                problem = f"is on the device {tensor.device}; move it to where the model is"
            elif tensor.is_quantized:
                problem = "is quantized; give a dense tensor, as by dequantize()"
            elif tensor.layout is not torch.strided:
                problem = f"has the layout {tensor.layout}; give a dense tensor, as by to_dense()"
            else:
                continue
            raise ValueError(f"model input {key}: {problem}")


def _may_be_one_utterance(inputs: ModelInputs) -> bool:
    """Whether the first dimension of every tensor is 1."""
    tensors = [x for _, x in inputs.items() if isinstance(x, Tensor)]
    return all(x.dim() > 0 and x.shape[0] == 1 for x in tensors)


def _sliced(inputs: ModelInputs, index: int, num_utterances: int) -> ModelInputs:
    """The inputs of one utterance: tensors whose first dimension is N are sliced, others whole."""

    def only(x: Any) -> Any:
        if isinstance(x, Tensor) and x.dim() > 0 and x.shape[0] == num_utterances:
            return x[index : index + 1]
        return x

    return ModelInputs(
        tuple(map(only, inputs.positional)), {name: only(x) for name, x in inputs.named.items()}
    )


def _unpadded(inputs: ModelInputs, index: int, num_utterances: int) -> ModelInputs | None:
    """The inputs of one utterance without its padding; None if nothing says where that begins.

    What says so are lengths [N], or a mask [N, S] of ones, then zeros. Other tensors are cut along
    the first dimension that has the padded size.
    """
    for _, x in inputs.items():
        if not isinstance(x, Tensor) or x.is_floating_point() or x.is_complex():
            continue
        if x.dim() not in (1, 2) or x.shape[0] != num_utterances or x.numel() == 0:
            continue
        if x.dim() == 1:
            kept, size = int(x[index]), int(x.max())
        elif _is_mask(x):
            kept, size = int(x[index].sum()), x.shape[1]
        else:
            continue
        if 0 < kept < size:
            return _cut(_sliced(inputs, index, num_utterances), size, kept)
    return None


def _is_mask(x: Tensor) -> bool:
    ones = x.long()
    return bool(((ones == 0) | (ones == 1)).all() and (ones.diff(dim=1) <= 0).all())


def _cut(inputs: ModelInputs, size: int, kept: int) -> ModelInputs:
    def only(x: Any) -> Any:
        if isinstance(x, Tensor):
            for dimension in range(1, x.dim()):
                if x.shape[dimension] == size:
                    return x.narrow(dimension, 0, kept)
        return x

    return ModelInputs(
        tuple(map(only, inputs.positional)), {name: only(x) for name, x in inputs.named.items()}
    )


def _warn_of_unmarked_padding(inputs: ModelInputs, lengths: Tensor) -> None:
    """Warn if utterances seem to be padded with zeros, which the model treats as audio."""
    tensors = [x for _, x in inputs.items() if isinstance(x, Tensor)]
    if len(tensors) != 1 or tensors[0].dim() != 2 or len(set(lengths.tolist())) != 1:
        return
    ends_in_zeros = (tensors[0][:, -16:] == 0).all(dim=1)
    if bool(ends_in_zeros.any()) and not bool(ends_in_zeros.all()):
        warn(
            f"{int(ends_in_zeros.sum())} of {len(ends_in_zeros)} utterances end in zeros, which "
            "the model takes for audio, as no mask or length tells it otherwise; if that is "
            "padding, give attention_mask, or score them one by one"
        )


def _compare_with_batch(alone: Any, together: Any, n: int, name: str) -> None:
    """Warn if an utterance's logits differ from those in the caller's batch.

    Alone, it has no padding. Either its neighbors or its padding affect it, or an input that all
    utterances share was sliced because its first dimension happens to be N.
    """
    (own, [length]), (logits, lengths) = alone, together
    same = int(length) == int(lengths[n])
    if same:
        rows = logits[n, : int(length)]
        # A thousandth of the largest logit is far more than rounding.
        gap = (own.detach()[0, : int(length)] - rows).abs().nan_to_num(0.0, 0.0, 0.0).amax()
        same = bool(gap <= 1e-3 * rows.abs().nan_to_num(0.0, 0.0, 0.0).amax() + 1e-6)
    if not same:
        warn(f"utterance {name!r} has different logits alone than in its batch; it is scored alone")
