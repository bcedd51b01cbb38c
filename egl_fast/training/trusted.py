"""What a model was trained on, kept with it: the recordings that typicality trusts by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.data.manifest import Utterance
from egl_fast.embeddings.spectrum import SIZE
from egl_fast.errors import AudioError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.hashing import hashed
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run.pool import PoolScoring, ReadingLimits
from egl_fast.scoring.run.trusted import trusted_embeddings
from egl_fast.scoring.task import ScoringTask
from egl_fast.training.examples import Example
from egl_fast.training.loop import Trainer, lost

#: More tell little more: docs/typicality.md was measured with 100 and 140.
MAX_TRUSTED = 250
#: What they may add to a model file, in numbers of 16 bits: as much as 237 rows of `small`.
_MAX_NUMBERS = 2**18


def keep_trusted(
    trainer: Trainer, *, wanted: bool, advance: Callable[[int, int], object] = lambda done, of: None
) -> None:
    """Put embeddings of training recordings into the model file of a finished run, or remove them.

    They are made by the weights in the file, in the way that ``score --typicality`` makes those of
    a manifest. A file that is already as wanted is left alone.

    Args:
        trainer: whose ``run`` has returned.
        wanted: whether the file is to hold embeddings.
        advance: told of every few recordings that are done, and of how many there are.

    Raises:
        AudioError: a recording can no longer be read.
        OutputError: the file cannot be written.
    """
    checkpoint = load_checkpoint(trainer.folder.model_path, device=trainer.device)
    width = 2 * checkpoint.model.output.in_features + SIZE
    most = min(MAX_TRUSTED, _MAX_NUMBERS // width)
    chosen = _sample(trainer.train_examples, most, trainer.config.seed) if wanted else []
    if bool(chosen) == (checkpoint.trusted is not None):
        return
    checkpoint.trusted = None
    if chosen:
        checkpoint.trusted = _embeddings(
            checkpoint,
            chosen,
            trainer.config.batch_seconds,
            lambda count: advance(count, len(chosen)),
        )
    trainer.folder.save_model(checkpoint)


def _sample(examples: Sequence[Example], count: int, seed: int) -> list[Utterance]:
    """A choice that does not depend on their order, of recordings with a text.

    One without may be of the very kind that typicality is to tell apart.
    """
    spoken = [example.utterance for example in examples if example.labels]
    return sorted(spoken, key=lambda utterance: hashed(seed, utterance.id))[:count]


def _embeddings(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    batch_seconds: float,
    advance: Callable[[int], object],
) -> Tensor:
    task = ScoringTask(
        GradientEngine(checkpoint.model), recognizer_of(checkpoint), ScoringOptions(), embeds=True
    )
    scoring = PoolScoring(task, batch_seconds, ReadingLimits())
    try:
        return torch.from_numpy(trusted_embeddings(scoring, utterances, advance))
    except AudioError as error:
        raise lost(error) from None
