"""``egl-fast query``: what it leaves beside the looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egl_fast.cli.selection_output import PicksOutput
from egl_fast.data.audio_folder import move_audio_paths
from egl_fast.data.strict_json import json_value
from egl_fast.errors import OutputError
from egl_fast.files.addresses import Place
from egl_fast.files.copies import folder_of
from egl_fast.files.run_settings import changed_settings

if TYPE_CHECKING:
    from egl_fast.query.beliefs import Beliefs

#: Recordings left out that may belong to the set with at least this probability are listed.
RUNNER_UP = 0.05


class Output:
    """``OUT`` and the files beside it.

    Args:
        out: the picks.
        format_chosen: how to write them, see ``selection_output.format_options``.
        inputs: files that the run reads, which it never overwrites.

    Raises:
        OutputError: a file cannot be written.
    """

    def __init__(self, out: str, format_chosen: dict[str, Any], inputs: Sequence[str]) -> None:
        lists = ("errors", "atypical", "uncertain")
        self.picks = PicksOutput(out, format_chosen, overwrite=True, inputs=inputs, lists=lists)
        if self.picks.path is None:
            raise OutputError("output -: the picks go to a file; name one with --out")
        self.path: Path = self.picks.path
        self.folder = self.picks.beside(".query")
        self.metadata_path = self.picks.metadata_path

    @property
    def errors_path(self) -> Path:
        """The recordings that could not be scored."""
        return self.picks.beside(".errors.jsonl")

    def refuse_leftovers(self) -> None:
        """Raise ``OutputError`` if an earlier run has left something."""
        if self.path.exists():
            raise OutputError(
                f"output {self.path}: already exists; give --overwrite to replace it, or another "
                "name"
            )
        if self.folder.exists():
            raise OutputError(
                f"output {self.path}: an earlier run was stopped before it was complete, or is "
                "still going on; give --resume to continue it, or --overwrite to start over"
            )

    def metadata(self) -> Any:
        """The content of ``OUT.meta.json``."""
        return json_value(self.metadata_path.read_bytes())

    def is_complete(self, settings: Mapping[str, Any]) -> bool:
        """Whether an earlier run with these settings has written all.

        Raises:
            OutputError: it had other settings.
        """
        if not self.path.exists():
            return False
        try:
            recorded = self.metadata()
            changed = changed_settings({name: recorded.get(name) for name in settings}, settings)
        except (OSError, ValueError, AttributeError):
            changed = ["unknown options"]
        if changed:
            raise OutputError(
                f"output {self.path}: was made with {'; '.join(changed)}; give --overwrite to "
                "replace it, or another name"
            )
        return True

    def write(
        self,
        records: Sequence[dict[str, Any]],
        scores: Sequence[float],
        beliefs: Beliefs,
        turned_away: Sequence[tuple[int, int]],
        errors: Sequence[dict[str, Any]],
        metadata: Mapping[str, Any],
        audio_folder: Place,
    ) -> None:
        """Write everything; see ``PicksOutput.write``.

        Args:
            records: of all that was scored.
            scores: of these, what they are ranked by.
            beliefs: the set.
            turned_away: index and group of what the gate left out.
            errors: lines of the errors file.
            metadata: of the run.
            audio_folder: what relative audio paths start from.
        """
        probabilities = beliefs.probabilities.tolist()
        picked = set(beliefs.picks)

        def line(index: int) -> dict[str, Any]:
            return {**records[index], "probability": round(probabilities[index], 4)}

        picks = [{**line(i), "rank": rank} for rank, i in enumerate(beliefs.picks, start=1)]
        uncertain = [
            line(index)
            for index in sorted(range(len(records)), key=lambda i: -probabilities[i])
            if index not in picked and probabilities[index] >= RUNNER_UP
        ]
        atypical = [{**records[index], "group": group} for index, group in turned_away]
        move_audio_paths([*picks, *uncertain, *atypical], audio_folder, folder_of(self.path))
        self.picks.write(
            picks,
            [scores[index] for index in beliefs.picks],
            is_found=True,
            lists={"errors": errors, "atypical": atypical, "uncertain": uncertain},
            metadata=metadata,
        )
