"""``egl-fast query``: looks at recordings, each kept in its own file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from egl_fast.cli.meter import ScoringMeter
from egl_fast.cli.operations import shown
from egl_fast.data.strict_json import json_value
from egl_fast.embeddings.file import load_embeddings
from egl_fast.errors import OutputError
from egl_fast.files import atomic
from egl_fast.hashing import hashed
from egl_fast.query.looks import Levels
from egl_fast.scoring.run.resumable_scores import ResumableScores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from egl_fast.cli.likeness import Likeness
    from egl_fast.data.manifest import Utterance
    from egl_fast.scoring.run.scoring import Scoring
    from egl_fast.tracking.listener import Listeners


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop; the message says what is kept."""


class Looks:
    """Looks of a query, in ``OUT.query/round-N.rows-R.jsonl`` and files beside it.

    Args:
        folder: ``OUT.query``, which exists.
        levels: how closely recordings can be looked at.
        inputs: files that the run reads.
        overwrite: replace looks that do not fit; those that do are used in any case.
        stop: set when the run is to stop soon.
        watch: told how far it has come.
    """

    def __init__(
        self,
        folder: Path,
        levels: Levels,
        inputs: Sequence[str],
        *,
        overwrite: bool,
        stop: Event,
        watch: Listeners,
    ) -> None:
        self.folder = folder
        self._levels = levels
        self.errors: list[dict[str, Any]] = []
        self._inputs = inputs
        self._overwrite = overwrite
        self._stop = stop
        self._watch = watch

    def take(
        self,
        scoring: Scoring,
        utterances: Sequence[Utterance],
        settings: dict[str, Any],
        *,
        number: int,
        level: int,
        likeness: Likeness | None = None,
    ) -> list[dict[str, Any]]:
        """Look at recordings, as far as earlier runs have not done it.

        Args:
            scoring: how.
            utterances: the recordings.
            settings: of ``scoring``, see ``ResumableScores.begin``.
            number: of the round.
            level: of this look.
            likeness: gives the records a typicality.

        Returns:
            Records as in a scores file, without those that failed.

        Raises:
            OutputError: an earlier run was another one, or writing fails.
            Interrupted: ``stop`` was set.
        """
        path = self.folder / f"round-{number}.rows-{self._levels.rows[level]}.jsonl"
        ids = hashed(*(utterance.id for utterance in utterances)).hex()
        settings = {**settings, "looked_at": ids}
        try:
            results = self._finish(path, scoring, utterances, settings, likeness, number)
        except OutputError:
            if not self._overwrite:
                raise
            for leftover in self.folder.glob(f"{path.name}*"):
                atomic.remove(leftover)
            results = self._finish(path, scoring, utterances, settings, likeness, number)
        if results.errors_path.exists():
            self.errors += map(json_value, results.errors_path.read_bytes().splitlines())
        return [json_value(line) for line in path.read_bytes().splitlines()]

    def metadata(self) -> dict[str, Any]:
        """Metadata of the first look."""
        path = self.folder / f"round-1.rows-{self._levels.rows[0]}.jsonl.meta.json"
        found: dict[str, Any] = json_value(path.read_bytes())
        return found

    def embeddings(self, ids: Sequence[str]) -> npt.NDArray[np.floating] | None:
        """Embeddings of the first look; None if none were kept."""
        return load_embeddings(self.folder / f"round-1.rows-{self._levels.rows[0]}.jsonl", ids)

    def _finish(
        self,
        path: Path,
        scoring: Scoring,
        utterances: Sequence[Utterance],
        settings: dict[str, Any],
        likeness: Likeness | None,
        number: int,
    ) -> ResumableScores:
        results = ResumableScores(
            str(path), resume=True, inputs=self._inputs, embeddings=likeness is not None
        )
        with results.locked():
            if likeness is not None and results.is_new:
                likeness.look(scoring, utterances)
            if not results.begin(settings, len(utterances)):
                return results
            metadata = dict(settings)
            if likeness is not None:
                likeness.look(scoring, utterances)
            with shown(self._watch):
                meter = ScoringMeter(
                    self._watch,
                    f"round {number}",
                    len(utterances),
                    scoring.options,
                    done=results.num_completed,
                )
                for outcomes in scoring.outcomes(utterances, completed=results, stop=self._stop):
                    results.add(outcomes, 0.0)
                    meter.advance(outcomes)
            if results.num_completed < len(utterances):
                raise Interrupted(
                    f"interrupted: round {number}, {results.num_completed} of "
                    f"{len(utterances)} recordings are done and kept; the same command "
                    "with --resume continues"
                )
            typicality = None
            if likeness is not None:
                typicality = likeness.of(results.embeddings())
                metadata["typicality"] = likeness.metadata(results.column("id"))
            results.finish(metadata, typicality=typicality)
        return results
