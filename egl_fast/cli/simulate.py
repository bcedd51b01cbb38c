"""``egl-fast simulate``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egl_fast.cli import engines, options
from egl_fast.cli.console import progress_bar, say, tell, warn
from egl_fast.cli.extras import TOML, require_packages
from egl_fast.cli.idle_options import refuse_idle_options

if TYPE_CHECKING:
    import torch

    from egl_fast.evaluation.simulation.config import SimulationConfig
    from egl_fast.evaluation.simulation.plan import Expansion, Plan
    from egl_fast.evaluation.simulation.store import UnitStore
    from egl_fast.evaluation.simulation.units import Unit
    from egl_fast.evaluation.simulation.work import State, Watcher
    from egl_fast.ray.units import UnitsOnRay
    from egl_fast.tracking.reports import Reports, Target


@click.command("simulate")
@click.option(
    "--config", "config_path", required=True, type=options.ON_DISK, help="What to run (TOML)."
)
@click.option("--run-dir", required=True, type=options.FOLDER, help="Folder for tables and units.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, such as training.max_epochs=3; repeatable.",
)
@click.option(
    "--units",
    "units_dir",
    type=options.FOLDER,
    help="Folder of units, to share work with other runs [default: RUN_DIR/units].",
)
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be done, and stop.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share the work, each with --threads.",
)
@click.option("--worker", type=int, hidden=True, help="Number of a process that --jobs started.")
@options.report_to
@options.device
@options.threads
@engines.options
@options.quiet
@refuse_idle_options(
    without=engines.NEEDS_RAY, beside={**engines.BESIDE_RAY, "--jobs": "--engine ray"}
)
def command(
    config_path: str,
    run_dir: str,
    overrides: tuple[str, ...],
    units_dir: str | None,
    dry_run: bool,
    jobs: int,
    worker: int | None,
    report_to: tuple[Target, ...],
    device: str,
    threads: int | None,
    engine: engines.Engine,
) -> None:
    """Run a whole active-learning evaluation on data whose labels are known.

    A base model is trained on the base set and scores the pool, whose labels it never sees. What
    each strategy picks is labeled, training goes on, and all models are tested. Tables of the
    results are RUN_DIR/results.csv and the files beside it. The work is divided into units: the
    same command resumes a run that was killed, equal work is done once, and several processes can
    share a folder. docs/simulate.md describes the configuration.

    \b
    Example:
      egl-fast simulate --config examples/simulate.toml --run-dir runs/demo --dry-run
      egl-fast simulate --config examples/simulate.toml --run-dir runs/demo --jobs 2 --threads 1
    """
    require_packages(
        "simulate", {"polars": "polars", "tomli_w": "tomli-w", **TOML}, extra="simulate"
    )
    from egl_fast.evaluation.simulation.config import read_config
    from egl_fast.evaluation.simulation.preparation import prepare
    from egl_fast.evaluation.simulation.run_folder import at_work_in
    from egl_fast.evaluation.simulation.store import UnitStore

    place = options.set_up_torch(device, threads)
    config = read_config(Path(config_path), overrides)
    if any(choice.needs_embeddings for choice in config.choices):
        require_packages("simulate", {"sklearn": "scikit-learn"}, extra="select")
    plan = prepare(config)
    run_path = Path(run_dir)
    store = UnitStore(Path(units_dir) if units_dir is not None else run_path / "units")
    if dry_run:
        _print_plan(plan, store, jobs)
        return
    if worker is not None:
        _end_with_parent()
    with at_work_in(run_path, config) as replaced:
        if replaced:
            say(
                f"{run_path} held a run with another configuration: its tables are made again for "
                "this one, and its units stay"
            )
        if worker is not None:
            _help(plan, store, run_path, place)
            return
        with _reports(report_to, run_path, config) as reports:
            if engine.name == "ray":
                with engines.units_on_ray(engine, threads) as do:
                    _work(plan, store, run_path, do.count, place, reports, do)
            else:
                _work(plan, store, run_path, jobs, place, reports)


def _reports(targets: Sequence[Target], run_dir: Path, config: SimulationConfig) -> Reports:
    from egl_fast.evaluation.simulation.config import resolved
    from egl_fast.tracking.reports import Reports

    return Reports(targets, run_dir, axis="num_labeled", settings=resolved(config))


def _report(reports: Reports, plan: Plan, store: UnitStore) -> None:
    """Test results by how many recordings were labeled, a curve a metric, strategy and seed."""
    if not reports:
        return
    from egl_fast.evaluation.simulation.tables import result_rows
    from egl_fast.tracking.reports import Entry

    entries = []
    for row in result_rows(plan, plan.expand(store), store):
        curve = f"{row['strategy'] or 'ends'}/{row['mode']}/seed-{row['seed']}"
        values = {f"{metric}/{curve}": row[metric] for metric in ("ctc_loss", "cer", "wer")}
        key = f"{curve}/{row['round']}/{row['query']}/{row['unit']}"
        entries.append(Entry(key, row["num_labeled"], values))
    reports.log(entries)


def _help(plan: Plan, store: UnitStore, run_dir: Path, place: torch.device) -> None:
    """What a process does that ``--jobs`` started."""
    from egl_fast.evaluation.simulation.run_folder import refresh_tables
    from egl_fast.evaluation.simulation.work import Watcher, work

    watcher = Watcher(on_finish=lambda *_: refresh_tables(plan, store, run_dir))
    work(plan, store, watcher, device=place)


def _work(
    plan: Plan,
    store: UnitStore,
    run_dir: Path,
    jobs: int,
    place: torch.device,
    reports: Reports,
    on_ray: UnitsOnRay | None = None,
) -> None:
    from egl_fast.evaluation.simulation.run_folder import refresh_tables
    from egl_fast.evaluation.simulation.work import state_of, work

    def refresh() -> None:
        refresh_tables(plan, store, run_dir)
        _report(reports, plan, store)

    state = state_of(plan.expand(store), store, workers=jobs)
    say(f"{state.total} units of work, {state.done} of them done: {store.root}")
    waiting = _Waiting()
    refresh()
    if on_ray is None:
        helpers = _helpers(jobs, run_dir)
    else:
        helpers = _helping_threads(jobs, plan, store.root, on_ray)
    with helpers, _watcher(store, state, waiting, refresh) as watcher:
        expansion = work(plan, store, watcher, device=place, do=on_ray)
    refresh_tables(plan, store, run_dir, on_wait=lambda holder: waiting.say([holder]))
    _report(reports, plan, store)
    say(f"{len(expansion.points)} points of the experiment: {run_dir / 'results.csv'}")


class _Waiting:
    """Says once which processes are waited for."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, holders: Sequence[str]) -> None:
        for holder in holders:
            if holder not in self._said:
                say(f"waiting for {holder}")
            self._said.add(holder)


@contextlib.contextmanager
def _watcher(
    store: UnitStore, state: State, waiting: _Waiting, refresh: Callable[[], None]
) -> Iterator[Watcher]:
    """Shows progress on standard error, and refreshes the tables after each unit."""
    from egl_fast.evaluation.simulation.work import Watcher

    with progress_bar(with_time_left=False) as bar:
        task = bar.add_task("units", total=state.total, completed=state.done, note="")
        current = ["", ""]

        def on_start(unit: Unit, now: State) -> None:
            current[:] = unit.title, _left(now)
            bar.update(task, total=now.total, completed=now.done, note=": ".join(current))

        def on_note(words: str) -> None:
            bar.update(task, note=f"{current[0]}: {words}{current[1]}")

        def on_finish(unit: Unit, expansion: Expansion, now: State) -> None:
            refresh()
            bar.update(task, total=now.total, completed=now.done)
            say(f"{now.done}/{now.total} {_outcome(unit, store)}{_left(now)}")

        def on_wait(now: State, holders: Sequence[str]) -> None:
            waiting.say(holders)
            note = f"waiting for the other processes{_left(now)}"
            bar.update(task, total=now.total, completed=now.done, note=note)

        yield Watcher(on_start, on_note, on_finish, on_wait)


def _outcome(unit: Unit, store: UnitStore) -> str:
    from egl_fast.training.metrics import in_nats

    result = store.result(unit.name) or {}
    seconds = store.seconds(unit.name) or 0.0
    facts = f"{unit.title} ({unit.name}): {seconds:.0f} s"
    if "epochs" in result:
        facts += f", {result['epochs']} epochs, validation loss {in_nats(result['valid_loss'])}"
    if "test" in result:
        test = result["test"]
        facts += f"; test loss {test['ctc_loss']:.2f}, CER {test['cer']:.3f}, WER {test['wer']:.3f}"
    return facts


def _left(state: State) -> str:
    if state.left_seconds is None:
        return ""
    return f"; about {timedelta(seconds=round(state.left_seconds))} left"


@contextlib.contextmanager
def _helpers(jobs: int, run_dir: Path) -> Iterator[None]:
    """More processes at the same work; each logs to a file and ends when this one does."""
    processes: dict[Path, subprocess.Popen[bytes]] = {}
    with contextlib.ExitStack() as stack:
        for number in range(2, jobs + 1):
            path = run_dir / f"worker-{number}.log"
            log = stack.enter_context(open(path, "w"))
            command = [sys.executable, "-m", "egl_fast", *sys.argv[1:], "--worker", str(number)]
            processes[path] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            for path, process in processes.items():
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:  # it may be stopped
                    process.kill()
                    process.wait()
                    continue
                if process.returncode not in (0, 130):
                    warn(f"a helper process failed; {path} says why")


@contextlib.contextmanager
def _helping_threads(jobs: int, plan: Plan, units: Path, on_ray: UnitsOnRay) -> Iterator[None]:
    """Threads that have units done on a cluster: their locks are all held here."""
    from egl_fast.errors import EglError
    from egl_fast.evaluation.simulation.store import UnitStore
    from egl_fast.evaluation.simulation.work import work

    def help() -> None:
        with contextlib.suppress(EglError):  # the same unit tells the main thread
            work(plan, UnitStore(units), do=on_ray)

    for _ in range(jobs - 1):
        threading.Thread(target=help, daemon=True).start()
    yield


def _end_with_parent() -> None:
    """End this process when the one that started it is gone for whatever reason."""

    def watch() -> None:
        # Nothing is ever written: reading ends when the other end of the pipe closes. Not by
        # sys.stdin, whose lock this thread would still hold if the interpreter ended first.
        os.read(0, 1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _print_plan(plan: Plan, store: UnitStore, jobs: int) -> None:
    from egl_fast.evaluation.simulation.sets import total_seconds
    from egl_fast.evaluation.simulation.work import state_of

    tell("set              utterances  minutes")
    for part, members in plan.sets.items():
        if members:
            tell(f"{part:15}  {len(members):10}  {total_seconds(members) / 60:7.1f}")
    expansion = plan.expand(store)
    done = Counter[str](unit.kind for unit in expansion.units.values() if store.is_done(unit.name))
    costs = [(str(unit.kind), unit.cost) for unit in expansion.units.values()]
    costs += expansion.later.values()
    tell("")
    tell("units     number   done  minutes of audio each")
    for kind, count in Counter(kind for kind, _ in costs).items():
        mean = sum(cost for of, cost in costs if of == kind) / count / 60
        tell(f"{kind:8}  {count:6}  {done[kind]:5}  {mean:21.1f}")
    state = state_of(expansion, store, workers=jobs)
    tell("")
    tell(f"{state.total} units, {state.done} done{_left(state)}")
