"""The run folder of a simulation, shared only by processes with the same configuration.

config.toml    the configuration
.lock          shared by all processes at work in the folder
.tables.lock   held by the one that writes the tables
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from egl_fast.errors import OutputError, one_line
from egl_fast.evaluation.simulation.config import SimulationConfig
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.tables import config_text, write_tables
from egl_fast.files import atomic
from egl_fast.files.locking import (
    LockHeldError,
    holder_of,
    locked_file,
    made_exclusive,
    name_holder,
    remove,
    sole_writer,
)

#: Processes that start at the same instant lock each other out for a moment.
_PATIENCE_SECONDS: Final = 2.0


@contextmanager
def at_work_in(run_dir: Path, config: SimulationConfig) -> Iterator[bool]:
    """Lock out simulations with other configurations while at work in a folder.

    Yields:
        Whether the folder held another configuration, which this one has replaced.

    Raises:
        LockHeldError: a simulation with another configuration is at work there.
        OutputError: the folder cannot be written.
    """
    atomic.make_folder(run_dir)
    content = config_text(config).encode("utf-8", "surrogatepass")
    file, replaced = _join(run_dir, content)
    with file:
        try:
            yield replaced
        finally:
            if made_exclusive(file):
                remove(run_dir / ".lock", file)


def refresh_tables(
    plan: Plan, store: UnitStore, run_dir: Path, *, on_wait: Callable[[str], None] | None = None
) -> None:
    """Write the tables from what is done by now.

    Args:
        plan: of the simulation.
        store: its units.
        run_dir: where the tables go.
        on_wait: called with the process that is already writing them, which is then waited for;
            without it, nothing is written in that case.

    Raises:
        OutputError: a file cannot be written, or a unit's is damaged.
    """
    while True:
        try:
            with sole_writer(run_dir / ".tables.lock", of=f"tables of {run_dir}"):
                # Looked up here, so that older tables never replace newer ones.
                write_tables(plan, plan.expand(store), store, run_dir)
                return
        except LockHeldError as error:
            if on_wait is None:
                return
            on_wait(error.holder)
            time.sleep(0.2)


def _join(run_dir: Path, content: bytes) -> tuple[FileIO, bool]:
    lock, of = run_dir / ".lock", f"run folder {run_dir}"
    replaced = False
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        file = locked_file(lock, of=of, shared=True)
        if file is not None:
            if _config(run_dir) == content:
                return file, replaced
            file.close()
        file = locked_file(lock, of=of)
        if file is not None:
            with file:
                name_holder(file)
                replaced = _config(run_dir) not in (None, content)
                atomic.write_bytes(run_dir / "config.toml", content)
            continue
        if time.monotonic() > deadline:
            holder = holder_of(lock)
            raise LockHeldError(
                f"{of}: a simulation with another configuration is at work there, started by "
                f"{holder}; wait for it, or give another --run-dir (--units shares its work)",
                holder,
            )
        time.sleep(0.02)


def _config(run_dir: Path) -> bytes | None:
    path = run_dir / "config.toml"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"output {path}: cannot be read ({one_line(error)})") from None
