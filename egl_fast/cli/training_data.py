"""The data of `train`, checked before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from egl_fast.cli.operations import shown
from egl_fast.errors import ManifestError, one_line

if TYPE_CHECKING:
    from egl_fast.checkpoint import Checkpoint
    from egl_fast.data.manifest import Utterance
    from egl_fast.tracking.listener import Listeners
    from egl_fast.training.examples import Prepared
    from egl_fast.training.processes import Processes


@dataclass(frozen=True)
class Transcribed:
    """A manifest of transcribed speech."""

    path: str
    utterances: list[Utterance]
    sha256: str

    @classmethod
    def read(cls, paths: Sequence[str], *, lowercase: bool) -> Transcribed:
        """Read manifests, with lowercase texts if requested. Raises ``ManifestError``."""
        from egl_fast.data.manifest import read_manifest_and_hash
        from egl_fast.training.texts import lowercased

        utterances, sha256 = read_manifest_and_hash(*paths)
        return cls(", ".join(paths), lowercased(utterances) if lowercase else utterances, sha256)

    def refuse_texts(self, checkpoint: Checkpoint, remedy: str) -> None:
        """Raise ``ManifestError`` unless the model can write all texts, and some are not empty."""
        from egl_fast.recognizers.checkpoint import classes_of
        from egl_fast.training.texts import all_labels, num_empty

        try:
            all_labels(self.utterances, classes_of(checkpoint), remedy=remedy)
        except ManifestError as error:
            raise ManifestError(f"manifest {self.path}: {error}") from None
        if num_empty(self.utterances) == len(self.utterances):
            raise ManifestError(f"manifest {self.path}: every 'text' is empty; add what was said")


def remedy_for(*, is_new: bool, lowercase: bool) -> str:
    """What to do about characters that the model cannot write."""
    remedies = [
        *([] if lowercase else ["--lowercase converts all texts to lower case"]),
        *(["--vocabulary FILE gives a new model other characters"] if is_new else []),
    ]
    return ", ".join(remedies) or "normalize the transcripts to the model's characters"


def prepared(
    manifests: Sequence[Transcribed],
    checkpoint: Checkpoint,
    processes: Processes,
    watch: Listeners,
) -> list[Prepared]:
    """What can be trained on, per manifest. Raises ``ManifestError`` if one has nothing left."""
    from egl_fast.training.examples import prepare_examples

    total = sum(len(processes.share(manifest.utterances)) for manifest in manifests)
    found = []
    done = count(1)
    with shown(watch):
        watch.started("reading recordings", "recordings", total, 0)
        for manifest in manifests:
            prepared = prepare_examples(
                manifest.utterances,
                checkpoint,
                advance=lambda: watch.progressed(next(done), total),
                processes=processes,
            )
            if not prepared.examples:
                first = prepared.left_out[0]
                raise ManifestError(
                    f"manifest {manifest.path}: none of its recordings can be used, the first "
                    f"({first.utterance.id!r}): {one_line(first.error)}"
                )
            found.append(prepared)
    return found


def shared_audio(train: Sequence[Utterance], valid: Sequence[Utterance]) -> str | None:
    """A warning if the same segment of audio is used for training and validation."""
    trained = {(os.path.abspath(u.audio_path), u.offset_seconds) for u in train}
    both = [u for u in valid if (os.path.abspath(u.audio_path), u.offset_seconds) in trained]
    if not both:
        return None
    return (
        f"{len(both)} of {len(valid)} utterances of --valid are also in --train (the first: "
        f"{both[0].id!r}): validation partly measures memorization"
    )
