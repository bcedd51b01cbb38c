"""The audit of ``egl-fast labels``: which transcripts to listen to before training on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, tell
from egl_fast.data.manifest import Utterance
from egl_fast.display import printable, shortened
from egl_fast.errors import EglError, one_line
from egl_fast.labeling.formats import Record
from egl_fast.labeling.returned import Problem
from egl_fast.recognizers.spec import load_recognizer

if TYPE_CHECKING:
    from egl_fast.labeling.audit import Audited

_MOST_LISTED = 10


def audited_lines(
    lines: Mapping[str, Record],
    folder: Path,
    model_spec: str,
    *,
    draws: int,
    params: str | None,
    seed: int,
    memory_bytes: int | None,
    device: str,
    threads: int | None,
) -> tuple[dict[str, Record], list[Problem]]:
    """Lines with the audit's keys, by id, and recordings that could not be audited."""
    from egl_fast.gradients.engine import GradientEngine
    from egl_fast.labeling.audit import audit
    from egl_fast.training.texts import lowercased, reference_labels, uppercased

    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    if params is None:
        options.say_what_counts(recognizer)
    engine = GradientEngine(
        recognizer.module, params=recognizer.pattern(params), memory_bytes=memory_bytes
    )
    in_case = {"lower": lowercased, "upper": uppercased}
    found: dict[str, Audited] = {}
    failed: list[Problem] = []
    with progress_bar() as bar:
        task = bar.add_task("auditing", total=len(lines), note="")
        for number, (identity, line) in enumerate(lines.items(), start=1):
            utterance = _utterance(identity, line, folder, number)
            if recognizer.case is not None:
                [utterance] = in_case[recognizer.case]([utterance])
            try:
                labels = reference_labels(utterance, recognizer.classes)
                [found[identity]] = audit(
                    recognizer, engine, utterance, [labels], num_draws=draws, seed=seed
                )
            except EglError as error:
                failed.append(Problem(identity, "unaudited", one_line(error)))
            bar.update(task, advance=1)
    order = sorted(found, key=lambda identity: -found[identity].nll_per_label)
    rank = {identity: place for place, identity in enumerate(order, start=1)}
    return {
        identity: {**line, **_keys(found[identity], rank[identity])} if identity in found else line
        for identity, line in lines.items()
    }, failed


def _utterance(identity: str, line: Record, folder: Path, number: int) -> Utterance:
    return Utterance(
        id=identity,
        audio_path=folder / str(line.get("audio_filepath")),
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
