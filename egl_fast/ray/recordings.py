"""``ScoreRecordings``: scores as a step of a Ray Data pipeline of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final

from egl_fast.data.rows import utterances_in
from egl_fast.dataframes import is_table, rows_of
from egl_fast.errors import MissingExtraError, one_line
from egl_fast.records import ScoreRecord, to_json
from egl_fast.scoring.options import ScoringKeywords, ScoringOptions
from egl_fast.scoring.run.outcome import in_order

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Keys that a scored recording has; values of an earlier run do not stand in for new ones.
SCORES: Final = {field.name for field in fields(ScoreRecord)} - {"id", "duration"} | {"typicality"}

#: Types of columns that every batch has, so that one without any scores can be joined to others.
_TYPES: Final = {"error": "string"} | {
    field.name: {"str": "string", "int": "int64"}.get(str(field.type), "float64")
    for field in fields(ScoreRecord)
    if field.default is MISSING and field.default_factory is MISSING
}


class ScoreRecordings:
    """Adds scores to batches of recordings; a callable class, as ``map_batches`` takes them.

    Args:
        model: any that ``--model`` takes.
        device: "cpu", "cuda", or "auto" for a GPU if Ray gives one.
        threads: for computing; None: what Ray sets, the CPUs of the actor.
        memory_bytes: for gradients, see ``Scorer``.
        batch_seconds: padded audio that shares a forward pass; None: 8, on a GPU 160.
        **options: see ``ScoringOptions``.

    Raises:
        EglError: the model cannot be loaded.

    Example:
        dataset = ray.data.read_json("pool.jsonl", lines=True)
        scored = dataset.map_batches(
            ScoreRecordings,
            fn_constructor_args=("base.pt",),
            fn_constructor_kwargs={"k": 100},
            batch_size=64,
            concurrency=4,
        )
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        threads: int | None = None,
        memory_bytes: int | None = None,
        batch_seconds: float | None = None,
        **options: Unpack[ScoringKeywords],
    ) -> None:
        import torch

        from egl_fast.scorer import Scorer, pool_scoring

        if threads is not None:
            torch.set_num_threads(threads)
        chosen = ScoringOptions(**options)
        scorer = Scorer.from_pretrained(
            model, device=device, params=chosen.params, memory_bytes=memory_bytes
        )
        self._scoring = pool_scoring(scorer, chosen, batch_seconds=batch_seconds)

    def __call__(self, batch: Any) -> Any:
        """The batch with scores.

        Args:
            batch: a table of pyarrow, a DataFrame, or a dictionary of columns: a manifest's keys,
                or ``audio`` in place of ``audio_filepath``, see ``Scorer.score_manifest``.

        Returns:
            A table of pyarrow: the batch's columns but ``audio``, the scores, and ``error``, which
            is null unless the recording could not be scored. Scores are those of a local run whose
            windows are these batches.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow
        except ImportError:
            raise MissingExtraError(
                "ScoreRecordings needs pyarrow: pip install 'egl-fast[ray]'"
            ) from None
        lines = self.lines(_rows(batch))
        given = (name for name in _names(batch) if name != "audio")
        names = dict.fromkeys([*given, *_TYPES, *(key for line in lines for key in line)])
        return pyarrow.table(
            {
                name: pyarrow.array([line.get(name) for line in lines], _TYPES.get(name))
                for name in names
            }
        )

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """For each row, in order, what a scores file would hold, and its ``error`` or None."""
        lines = []
        for outcome in in_order(self._scoring.outcomes(utterances_in(rows))):
            manifest = outcome.utterance.record
            if isinstance(outcome.result, ScoreRecord):
                lines.append({**to_json(outcome.result, manifest), "error": None})
            else:
                error = one_line(outcome.result)
                kept = {key: value for key, value in manifest.items() if key not in SCORES}
                lines.append({**kept, "id": outcome.utterance.id, "error": error})
        return lines


def _names(batch: Any) -> list[str]:
    if hasattr(batch, "column_names"):
        return list(batch.column_names)
    return list(batch.columns if is_table(batch) else batch)


def _rows(batch: Any) -> Iterable[Mapping[str, Any]]:
    if hasattr(batch, "to_pylist"):
        batch = batch.to_pylist()
    elif is_table(batch):
        return rows_of(batch)
    elif isinstance(batch, Mapping):
        names = list(batch)
        values = (_plain(batch[name]) for name in names)
        batch = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    return [{key: x for key, x in row.items() if x is not None} for row in batch]


def _plain(column: Any) -> Any:
    return column.tolist() if hasattr(column, "tolist") else column
