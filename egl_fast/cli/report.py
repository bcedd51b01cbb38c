"""``egl-fast report``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import Progress, TaskID

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, say, warn
from egl_fast.cli.extras import TOML, require_packages
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.selection_output import sending_of, sending_options
from egl_fast.data.audio_folder import audio_folder
from egl_fast.data.jsonl import refuse_unwritable
from egl_fast.errors import ManifestError, OutputError
from egl_fast.files.atomic import write_bytes
from egl_fast.files.copies import as_given, folder_of, origin_of, output
from egl_fast.files.locking import sole_writer
from egl_fast.labeling.formats import FORMATS, Sending, format_of

if TYPE_CHECKING:
    from egl_fast.evaluation.reporting.page_model import Page

#: What our reports hold near their beginning; nothing else is replaced.
GENERATOR = b'<meta name="generator" content="egl-fast'

#: Module -> package, of the extra `report`.
_NEEDED = {
    "jinja2": "jinja2",
    "polars": "polars",
    "PIL": "pillow",
    "vl_convert": "vl-convert-python",
    **TOML,
}


@click.command("report", cls=GroupedCommand)
@click.argument("run_dir", required=False, type=options.FOLDER, metavar="[RUN_DIR]")
@click.option(
    "--scores",
    type=options.SCORES,
    help="Report on a scored pool, or on what `select` or `query` picked from one, as JSON Lines; "
    "without an evaluation.",
)
@click.option(
    "--pool",
    type=options.MANIFEST,
    help="With --scores: the manifest that was scored, where FILE.meta.json does not name it.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([name for name, one in FORMATS.items() if one.chunks is not None]),
    help="With --scores: what the page can save what to label as, besides csv and jsonl, in the "
    "formats of `select`. May be repeated.",
)
@sending_options
@click.option(
    "--out",
    type=options.OUT,
    help="Where to write [default: report.html in RUN_DIR, or FILE.html beside the scores].",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier report and its figures.")
@click.option(
    "--figures", type=options.FOLDER, help="Also write the figures for a paper there, PNG and PDF."
)
@click.option("--paper", is_flag=True, help="Put the paper's Table 1 beside the run's.")
@click.option(
    "--audio",
    type=click.IntRange(0, 50),
    default=5,
    show_default=True,
    metavar="N",
    help="How many to listen to: top picks of each strategy, and recordings of each group that the "
    "gate leaves out.",
)
@click.option("--no-audio", is_flag=True, help="Nothing to listen to: the same as --audio 0.")
@options.quiet
@refuse_idle_options(
    without={"--pool": "--scores", "--format": "--scores"}, beside={"--audio": "--no-audio"}
)
def command(
    run_dir: str | None,
    scores: str | None,
    pool: str | None,
    out: str | None,
    overwrite: bool,
    figures: str | None,
    paper: bool,
    audio: int,
    no_audio: bool,
    formats: tuple[str, ...],
    **addressed: str,
) -> None:
    """One HTML page about an evaluation, a scored pool, or a selection from one.

    RUN_DIR is what `egl-fast simulate` wrote. The page is a single file that opens offline: tables
    with intervals, interactive figures, what each strategy picked, and its top picks to listen to.

    The page of --scores begins with what to label: a slider for the budget, the list that `select`
    would pick, why each recording is on it, and buttons that save it for a labeling tool.

    If the pool of --scores was scored with --typicality, the page also shows what the gate of
    `select` or `query` left out, in groups of like recordings: a few of each to listen to, and how
    to take a group back. Before a selection is made, it shows what --drop-atypical auto would leave
    out.

    The page of a selection is about its picks alone: why each was picked, and how to save fewer of
    them. For the rest of the pool, make the page of its scores.

    \b
    Examples:
      egl-fast report runs/grid --paper
      egl-fast report runs/grid --figures paper/figures --no-audio
      egl-fast report --scores scores.jsonl --out scores.html
      egl-fast report --scores scores.jsonl --format label-studio --audio-root /data
      egl-fast report --scores picks.jsonl
    """
    if (run_dir is None) == (scores is None):
        raise click.UsageError("give either RUN_DIR or --scores FILE")
    sending = sending_of(addressed, formats)
    if paper and run_dir is None:
        raise click.UsageError("--paper goes with RUN_DIR: a scores file holds no metrics")
    needed = _NEEDED if figures is None else {**_NEEDED, "matplotlib": "matplotlib"}
    require_packages("a report", needed, extra="report")
    top = 0 if no_audio else audio
    source = run_dir or scores
    assert source is not None
    path = Path(out) if out else Path(source, "report.html") if run_dir else _beside(source)
    if out is not None or path.parent.is_dir():
        refuse_unwritable(path, inputs=[source])
    named = format_of(path)
    if named is not None:
        raise OutputError(
            f"output {path}: is named like {named.name}, but a page is written; name it "
            f"{path.stem}.html, or write {named.name} with `select`"
        )
    _refuse_existing(path, overwrite=overwrite)
    if figures is not None and not overwrite:
        for name in ("figure1", "figure1_hours", "figure2") if run_dir else ("figure2",):
            for suffix in (".png", ".pdf"):
                _refuse_existing(Path(figures, name + suffix), overwrite=False)
    if run_dir is not None:
        html = _of_run(run_dir, top, with_paper=paper, figures=figures)
    else:
        html = _of_scores(source, pool, top, (formats, sending), figures=figures)
    with sole_writer(path.with_name(f"{path.name}.lock"), of=f"output {path}"):
        _refuse_existing(path, overwrite=overwrite)  # which may have come into being
        write_bytes(path, html)
    say(f"report: {path} ({len(html) / 2**20:.1f} MiB)")


def _beside(scores: str) -> Path:
    """Where the page of a scores file goes, on a disk or in its store."""
    origin = origin_of(scores)
    if isinstance(origin, Path):
        return Path(f"{scores}.html")
    return output(origin.beside(".html"), is_kept=False)


def _refuse_existing(path: Path, *, overwrite: bool) -> None:
    if not path.is_file():
        return
    if not overwrite:
        raise OutputError(
            f"output {path}: already exists; give --overwrite to replace it, or another name"
        )
    with open(path, "rb") as file:
        if GENERATOR not in file.read(4096):
            raise OutputError(f"output {path}: exists and is not a report; give another name")


def _of_run(run_dir: str, top: int, *, with_paper: bool, figures: str | None) -> bytes:
    from egl_fast.evaluation.reporting.evaluation import Evaluation
    from egl_fast.evaluation.reporting.figures import draw_curves, draw_ranks
    from egl_fast.evaluation.reporting.ranking import rank_pool
    from egl_fast.evaluation.reporting.render import render
    from egl_fast.evaluation.reporting.run_folder import read_run_folder
    from egl_fast.evaluation.reporting.run_page import run_page
    from egl_fast.evaluation.reporting.scores_file import read_scores_file

    run = read_run_folder(run_dir)
    with progress_bar() as bar:
        size = sum(file.stat().st_size for file in run.scores.values())
        task = bar.add_task("reading scores", total=size, note="")
        pools = {
            seed: read_scores_file(file, keep_ids=True, advance=_advancing(bar, task))
            for seed, file in run.scores.items()
        }
        advance = _advancing(bar, bar.add_task("making the page", total=None, note=""))
        evaluation = Evaluation(run)
        rankings = {seed: rank_pool(pool.strategies) for seed, pool in sorted(pools.items())}
        page = run_page(
            run, evaluation, pools, rankings, with_paper=with_paper, audio=top, advance=advance
        )
        html = render(page, name=Path(run_dir).resolve().name)
    drawn = []
    if figures is not None:
        drawn += draw_curves(evaluation, Path(figures))
        for ranking in list(rankings.values())[:1]:
            drawn += draw_ranks(ranking, Path(figures))
    _say_about(page, drawn)
    return html


def _of_scores(
    scores: str,
    pool: str | None,
    top: int,
    save_as: tuple[tuple[str, ...], Sending],
    *,
    figures: str | None,
) -> bytes:
    from egl_fast.evaluation.reporting.figures import draw_ranks
    from egl_fast.evaluation.reporting.left_out import needs_ids
    from egl_fast.evaluation.reporting.made_selection import made_selection
    from egl_fast.evaluation.reporting.pool_page import pool_page
    from egl_fast.evaluation.reporting.ranking import rank_pool
    from egl_fast.evaluation.reporting.render import render
    from egl_fast.evaluation.reporting.saving import Saving
    from egl_fast.evaluation.reporting.scores_file import read_scores_file
    from egl_fast.evaluation.reporting.selection_page import selection_page

    formats, sending = save_as
    folder, unknown = None, None
    try:
        folder = audio_folder(scores, pool)
    except ManifestError as error:
        if pool is not None or any(FORMATS[name].needs_folder for name in formats):
            raise
        # The page is worth having without sound, and the paths may all be absolute.
        unknown = str(error)
    saving = Saving(folder, tuple(dict.fromkeys([*Saving(None).formats, *formats])), sending)
    with progress_bar() as bar:
        size = os.path.getsize(scores) if os.path.isfile(scores) else None
        task = bar.add_task("reading scores", total=size, note="")
        scored = read_scores_file(
            scores, keep_ids=needs_ids(Path(scores)), advance=_advancing(bar, task)
        )
        advance = _advancing(bar, bar.add_task("making the page", total=None, note=""))
        made, ranking = made_selection(scored), None
        if made is not None and figures is not None:
            raise OutputError(
                f"--figures {figures}: rank against rank takes a whole pool, and "
                f"{as_given(scores)} holds picks; give --scores "
                f"{made.scores_name or 'the file that they are from'}"
            )
        common: dict[str, Any] = {
            "folder": folder or folder_of(Path(scores)), "saving": saving, "audio": top,
            "advance": advance,
        }  # fmt: skip
        if made is not None:
            page = selection_page(made, **common)
        else:
            ranking = rank_pool(scored.strategies)
            page = pool_page(scored, ranking, **common)
        if unknown is not None and any(one["excerpt"].audio is None for one in page.listen):
            page.warnings.append(f"{as_given(unknown)}.")
        html = render(page, name=Path(scores).name)
    drawn = [] if figures is None or ranking is None else draw_ranks(ranking, Path(figures))
    _say_about(page, drawn)
    return html


def _say_about(page: Page, figures: list[Path]) -> None:
    for warning in page.warnings:
        warn(warning)
    for path in figures:
        say(f"figure: {path}")


def _advancing(bar: Progress, task: TaskID) -> Callable[..., None]:
    def advance(more: int = 1) -> None:
        bar.update(task, advance=more)

    return advance
