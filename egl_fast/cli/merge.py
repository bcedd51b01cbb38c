"""``egl-fast merge``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, say, tell_json, warn
from egl_fast.cli.layer_shares import LayerShares
from egl_fast.cli.likeness import Likeness, trusted_path
from egl_fast.data.streamed_manifest import stream_manifest
from egl_fast.errors import ManifestError, one_line
from egl_fast.scoring.run.resumable_scores import ResumableScores
from egl_fast.scoring.run.shards import WHOLE

if TYPE_CHECKING:
    from egl_fast.scoring.run.merging import Merging

#: What need not be the same on all machines, but may change the last digits of scores.
_MACHINE = ("machine", "gpu", "threads")
_OF_ONE_SHARD = ("shard", "trusted", "num_scored", "num_failed", "audio_seconds", "wall_seconds",
                 "norm_rules", "layer_shares")  # fmt: skip


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, type=options.SCORES, metavar="SHARD...")
@click.option("--out", required=True, type=options.OUT,
              help="Scores file: JSONL, or Parquet if it ends in .parquet.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--pool", type=options.MANIFEST,
              help="The pool's manifest, if it is no longer where it was.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True,
              help="Print the metadata of --out as a JSON object.")  # fmt: skip
@options.quiet
def command(
    shards: tuple[str, ...], out: str, overwrite: bool, pool: str | None, as_json: bool
) -> int:
    """Put together what `score --shard` wrote, in the manifest's order.

    Every SHARD is a scores file; their order does not matter, but their settings must agree. The
    result, with the files beside it, is what a single run would have written. If recordings are
    missing, or are in two shards, nothing is written. With `--typicality`, typicality is computed
    here, over the whole pool.

    \b
    Example:
      egl-fast merge scores.*.jsonl --out scores.jsonl
    """
    from egl_fast.scoring.run.merging import Merging, metadata_of, shared_settings

    # Shells find errors files, too, where they look for scores.*.jsonl.
    errors = {f"{shard}.errors.jsonl" for shard in shards}
    paths = [Path(shard) for shard in dict.fromkeys(shards) if shard not in errors]
    metadata = {path: metadata_of(path) for path in paths}
    settings = shared_settings(metadata)
    first = metadata[paths[0]]
    likeness = _likeness(metadata)
    results = ResumableScores(
        out,
        overwrite=overwrite,
        inputs=[f"{path}{suffix}" for path in paths for suffix in ("", ".meta.json")],
        embeddings=likeness is not None,
    )
    named = pool or first.get("pool", "")
    sources = [named] if isinstance(named, str) else named
    manifest = stream_manifest(*sources)
    if manifest.sha256 != settings["pool_sha256"]:
        raise ManifestError(
            f"manifest {', '.join(sources)}: is not the one that was scored; name that by --pool"
        )
    utterances = WHOLE.of(manifest, limit=settings.get("limit"))
    merging = Merging(paths, utterances, embeddings=likeness is not None)
    with results.locked():
        _refuse_faults(merging)
        results.begin(settings, len(utterances))
        seconds = sum(float(one.get("wall_seconds", 0.0)) for one in metadata.values())
        with progress_bar() as bar:
            task = bar.add_task("merging", total=len(utterances), note="recordings")
            for window in merging.windows():
                results.add(window, seconds)
                seconds = 0.0
                bar.update(task, advance=len(window))
        circumstances = {key: first[key] for key in first if key not in _OF_ONE_SHARD}
        typicality = None
        if likeness is not None:
            typicality = likeness.of(results.embeddings())
            circumstances["typicality"] = likeness.metadata(results.column("id"))
        # A shard in which nothing could be scored says nothing of these.
        rules = [one["norm_rules"] for one in metadata.values() if "norm_rules" in one]
        if rules:
            circumstances["norm_rules"] = rules[0]
        if settings["by_layer"]:
            circumstances["layer_shares"] = LayerShares.of(results.records()).as_json()
        results.finish({**settings, **circumstances}, typicality=typicality)
    _warn_of_machines(metadata)
    tally = results.tally
    say(f"merged {len(paths)} shards, {tally.num_scored} recordings: {results.out}")
    if tally.num_failed:
        say(f"{tally.num_failed} could not be scored: see {results.errors_path}")
    if as_json:
        tell_json(results.metadata())
    return 3 if tally.num_failed else 0


def _refuse_faults(merging: Merging) -> None:
    """Read everything once before anything is written: old scores stay if shards are at fault."""
    for _ in merging.windows():
        pass
    merging.refuse_faults()


def _likeness(shards: Mapping[Path, Mapping[str, Any]]) -> Likeness | None:
    """To the recordings that the shards were to be compared with; None if to none."""
    shard, metadata = next(iter(shards.items()))
    sha256 = metadata.get("trusted_sha256")
    if sha256 is None:
        return None
    import numpy as np

    from egl_fast.files.arrays import read_array

    # Each shard has a copy.
    path = next(filter(Path.exists, map(trusted_path, shards)), trusted_path(shard))
    try:
        embeddings = np.array(read_array(path))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"shard {shard}: {path.name} cannot be read ({one_line(error)}); give what "
            "`egl-fast score --shard` wrote, with the files beside it"
        ) from None
    return Likeness(str(metadata.get("trusted", "")), sha256, embeddings=embeddings)


def _warn_of_machines(metadata: Mapping[Path, Mapping[str, Any]]) -> None:
    found = {key: {str(one.get(key)) for one in metadata.values()} for key in _MACHINE}
    differing = [key for key, values in found.items() if len(values) > 1]
    if differing:
        warn(
            f"the shards' {' and '.join(differing)} differ: their scores are comparable, but the "
            "last digits may not be those of a single run"
        )
