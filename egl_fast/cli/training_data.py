"""What `train` is given, looked at before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egl_fast.cli.console import progress_bar
from egl_fast.errors import ManifestError, one_line

if TYPE_CHECKING:
    from egl_fast.checkpoint import Checkpoint
    from egl_fast.data.manifest import Utterance
    from egl_fast.training.examples import Prepared


@dataclass(frozen=True)
class Transcribed:
    """A manifest of transcribed speech."""

    path: str
    utterances: list[Utterance]
    sha256: str

    @classmethod
    def read(cls, path: str, *, lowercase: bool) -> Transcribed:
        """The manifest at a path, its texts in lower case if so wanted.

        Raises:
            ManifestError: it cannot be read.
        """
        from egl_fast.data.manifest import read_manifest_and_hash
        from egl_fast.training.texts import lowercased

        utterances, sha256 = read_manifest_and_hash(path)
        return cls(path, lowercased(utterances) if lowercase else utterances, sha256)

    def refuse_texts(self, checkpoint: Checkpoint, remedy: str) -> None:
        """Make sure that the model can write all texts, and that they say something.

        Raises:
            ManifestError: some are missing or cannot be written, or all are empty.
        """
        from egl_fast.training.texts import all_labels, num_empty

        try:
            all_labels(self.utterances, checkpoint.vocabulary, remedy=remedy)
        except ManifestError as error:
            raise ManifestError(f"manifest {self.path}: {error}") from None
        if num_empty(self.utterances) == len(self.utterances):
            raise ManifestError(
                f"manifest {self.path}: every 'text' is empty; fill in what was said"
            )


def remedy_for(*, is_new: bool, lowercase: bool) -> str:
    """What to do about characters that the model cannot write."""
    remedies = [
        *([] if lowercase else ["--lowercase puts all texts in lower case"]),
        *(["--vocabulary FILE gives a new model other characters"] if is_new else []),
    ]
    return ", ".join(remedies) or "normalize the transcripts to the model's characters"


def prepared(manifests: Sequence[Transcribed], checkpoint: Checkpoint) -> list[Prepared]:
    """What can be trained on, of each manifest; every recording is decoded.

    Raises:
        ManifestError: nothing is left of one.
    """
    from egl_fast.training.examples import prepare_examples

    total = sum(len(manifest.utterances) for manifest in manifests)
    found = []
    with progress_bar() as bar:
        task = bar.add_task("reading recordings", total=total, note="")
        for manifest in manifests:
            prepared = prepare_examples(
                manifest.utterances, checkpoint, advance=lambda: bar.update(task, advance=1)
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
    """A warning where the same stretch of audio is trained and validated on."""
    trained = {(os.path.abspath(u.audio_path), u.offset_seconds) for u in train}
    both = [u for u in valid if (os.path.abspath(u.audio_path), u.offset_seconds) in trained]
    if not both:
        return None
    return (
        f"{len(both)} of {len(valid)} utterances of --valid are in --train, too (the first: "
        f"{both[0].id!r}): validation then says how well they were memorized"
    )
