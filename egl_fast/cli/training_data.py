"""The data of `train`, checked before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from egl_fast.cli.operations import shown
from egl_fast.errors import ManifestError, one_line

if TYPE_CHECKING:
    from egl_fast.checkpoint import Checkpoint
    from egl_fast.data.manifest import Utterance
    from egl_fast.tracking.listener import Listeners
    from egl_fast.training.examples import LeftOut, Prepared
    from egl_fast.training.processes import Processes
    from egl_fast.training.texts import Unwritable


@dataclass(frozen=True)
class Transcribed:
    """A manifest of transcribed speech.

    Attributes:
        path: of the manifest, or of all of them.
        utterances: those that can be used, as far as is known.
        sha256: of the manifest, whole.
        left_out: the others.
    """

    path: str
    utterances: list[Utterance]
    sha256: str
    left_out: Sequence[LeftOut] = ()

    @classmethod
    def read(cls, paths: Sequence[str], *, lowercase: bool) -> Transcribed:
        """Read manifests, with lowercase texts if requested. Raises ``ManifestError``."""
        from egl_fast.data.manifest import read_manifest_and_hash
        from egl_fast.training.texts import lowercased

        utterances, sha256 = read_manifest_and_hash(*paths)
        return cls(", ".join(paths), lowercased(utterances) if lowercase else utterances, sha256)

    def writable(
        self, checkpoint: Checkpoint, *, skip: bool, is_new: bool, lowercase: bool
    ) -> Transcribed:
        """The same without the texts that the model cannot write.

        Args:
            checkpoint: the model.
            skip: leave out such texts, unless all are; otherwise, one is an error.
            is_new: whether it is a new model, which can have other characters.
            lowercase: whether texts were converted.

        Raises:
            ManifestError: there is such a text, or all are empty.
        """
        from egl_fast.recognizers.checkpoint import classes_of
        from egl_fast.training.examples import LeftOut
        from egl_fast.training.texts import labels_of, num_empty

        classes, total = classes_of(checkpoint), len(self.utterances)
        found, unwritable = labels_of(self.utterances, classes, remedy="")
        if unwritable.errors and not (skip and found):
            letters = set(classes.spelling.of_characters or ())
            remedy = _remedy(unwritable, letters, is_new=is_new, lowercase=lowercase)
            error = unwritable.as_one_error(total, remedy)
            raise ManifestError(f"manifest {self.path}: {error}")
        kept = [one for one in self.utterances if one.id in found]
        if num_empty(kept) == len(kept):
            raise ManifestError(f"manifest {self.path}: every 'text' is empty; add what was said")
        left_out = [
            LeftOut(one, unwritable.errors[one.id])
            for one in self.utterances
            if one.id in unwritable.errors
        ]
        return replace(self, utterances=kept, left_out=left_out)


def _remedy(
    unwritable: Unwritable, letters: Container[str], *, is_new: bool, lowercase: bool
) -> str:
    """What to do about characters that the model cannot write: what fits these."""
    unknown = set(unwritable.characters)
    capitals = {one for one in unknown if one.lower() != one and one.lower() in letters}
    digits = {one for one in unknown if one.isdigit()}
    remedies = []
    if capitals and not lowercase:
        remedies.append("--lowercase converts the capitals")
    if digits:
        remedies.append("write numbers as words")
    if unknown - capitals - digits or not unknown:
        remedies.append("normalize the transcripts to the model's characters")
    if is_new:
        remedies.append("--vocabulary FILE gives a new model other characters")
    count = len(unwritable.errors)
    what = "this recording" if count == 1 else f"these {count} recordings"
    remedies.append(f"--skip-unwritable leaves out {what}")
    return ", ".join(remedies)


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
