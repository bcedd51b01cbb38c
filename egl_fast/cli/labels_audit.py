"""What a model says of transcripts: which it cannot write, and which to listen to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell, warn
from egl_fast.data.manifest import Utterance
from egl_fast.display import printable, shortened
from egl_fast.errors import EglError, one_line
from egl_fast.files.addresses import Place, joined
from egl_fast.labeling.formats import Record
from egl_fast.labeling.returned import Problem

if TYPE_CHECKING:
    from egl_fast.labeling.audit import Audited
    from egl_fast.recognizers.recognizer import Recognizer

_MOST_LISTED = 10


class Spelled:
    """Transcripts, spelled by a model.

    Args:
        lines: of the training manifest, by id.
        folder: what their relative audio paths start from.
        recognizer: the model.

    Attributes:
        problems: the transcripts that it cannot write.
    """

    def __init__(self, lines: Mapping[str, Record], folder: Place, recognizer: Recognizer) -> None:
        from egl_fast.training.texts import labels_of, lowercased, uppercased

        utterances = [
            _utterance(identity, line, folder, number)
            for number, (identity, line) in enumerate(lines.items(), start=1)
        ]
        if recognizer.case is not None:
            utterances = {"lower": lowercased, "upper": uppercased}[recognizer.case](utterances)
        self._lines, self._recognizer = lines, recognizer
        self._utterances = {utterance.id: utterance for utterance in utterances}
        self._labels, unwritable = labels_of(utterances, recognizer.classes)
        self.problems = [
            Problem(identity, "unwritable", one_line(error))
            for identity, error in unwritable.errors.items()
        ]
        if unwritable.characters:
            warn(f"characters that the model lacks, by transcripts: {unwritable.listed()}")

    def audited(
        self, *, draws: int, params: str | None, seed: int, memory_bytes: int | None
    ) -> tuple[dict[str, Record], list[Problem]]:
        """Lines with the audit's keys, by id, and recordings that could not be audited."""
        from egl_fast.gradients.engine import GradientEngine
        from egl_fast.labeling.audit import audit

        recognizer = self._recognizer
        if params is None:
            options.say_what_counts(recognizer)
        engine = GradientEngine(
            recognizer.module, params=recognizer.pattern(params), memory_bytes=memory_bytes
        )
        found: dict[str, Audited] = {}
        failed: list[Problem] = []
        with progress_bar() as bar:
            task = bar.add_task("auditing", total=len(self._labels), note="")
            for identity, labels in self._labels.items():
                try:
                    [found[identity]] = audit(
                        recognizer,
                        engine,
                        self._utterances[identity],
                        [labels],
                        num_draws=draws,
                        seed=seed,
                    )
                except EglError as error:
                    failed.append(Problem(identity, "unaudited", one_line(error)))
                bar.update(task, advance=1)
        order = sorted(found, key=lambda identity: -found[identity].nll_per_label)
        rank = {identity: place for place, identity in enumerate(order, start=1)}
        return {
            identity: {**line, **_keys(found[identity], rank[identity])}
            if identity in found
            else line
            for identity, line in self._lines.items()
        }, failed


def _utterance(identity: str, line: Record, folder: Place, number: int) -> Utterance:
    return Utterance(
        id=identity,
        audio_path=joined(folder, str(line.get("audio_filepath"))),
        offset_seconds=line.get("offset") or 0.0,
        duration_seconds=line.get("duration"),
        text=line["text"],
        record=line,
        line=number,
    )


def _keys(audited: Audited, rank: int) -> Record:
    fits = audited.nll < float("inf")
    return {
        "audit_rank": rank,
        "audit_nll": audited.nll_per_label if fits else None,
        **(
            {
                "audit_percentile": audited.nll_percentile,
                "audit_norm_percentile": audited.norm_percentile,
            }
            if audited.drawn_nlls
            else {}
        ),
    }


def list_suspicious(lines: Iterable[Record]) -> None:
    """Print the first few."""
    ranked = sorted(
        (line for line in lines if "audit_rank" in line), key=lambda line: line["audit_rank"]
    )
    tell("most suspicious first: nats per label, then id and transcript")
    for line in ranked[:_MOST_LISTED]:
        nll = line["audit_nll"]
        tell(
            f"{line['audit_rank']:4}  {'too long' if nll is None else f'{nll:8.2f}'}  "
            f"{shortened(printable(line['id']), 24):24}  {shortened(printable(line['text']), 36)}"
        )
