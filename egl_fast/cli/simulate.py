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

from egl_fast.cli import engines, operations, options
from egl_fast.cli.console import say, tell, warn
from egl_fast.cli.extras import TOML, require_packages
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.tracking.listener import Entry

if TYPE_CHECKING:
    import torch

    from egl_fast.evaluation.simulation.config import SimulationConfig
    from egl_fast.evaluation.simulation.plan import Expansion, Plan
    from egl_fast.evaluation.simulation.store import UnitStore
    from egl_fast.evaluation.simulation.units import Unit
    from egl_fast.evaluation.simulation.work import State, Watcher
    from egl_fast.ray.units import UnitsOnRay
    from egl_fast.tracking.listener import Listeners
    from egl_fast.tracking.reports import Target


@click.command("simulate", cls=GroupedCommand)
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
@operations.options(speaks=lambda values: values["worker"] is None)
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
    watch: Listeners,
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
        results = _Results(plan, store, watch)
        if report_to:
            _report_to(report_to, run_path, config, results)
        if engine.name == "ray":
            with engines.units_on_ray(engine, threads) as do:
                _work(plan, store, run_path, do.count, place, results, do)
        else:
            _work(plan, store, run_path, jobs, place, results)


def _report_to(
    targets: Sequence[Target], run_dir: Path, config: SimulationConfig, results: _Results
) -> None:
    """Let tools listen, and tell them what earlier processes left unsaid."""
    from egl_fast.evaluation.simulation.config import resolved
    from egl_fast.tracking.reports import Reports

    reports = Reports(targets, run_dir, axis="num_labeled", settings=resolved(config))
    results.watch.all.append(reports)
    reports.measured(results.earlier)


class _Results:
    """Tells of test results once they are there; those of earlier runs are not news."""

    def __init__(self, plan: Plan, store: UnitStore, watch: Listeners) -> None:
        self.plan, self.store, self.watch = plan, store, watch
        self.earlier = _entries(plan, store)
        self._told = {entry.key for entry in self.earlier}

    def tell(self) -> None:
        """Tell of those that are new."""
        new = [one for one in _entries(self.plan, self.store) if one.key not in self._told]
        self._told |= {entry.key for entry in new}
        self.watch.measured(new)


def _entries(plan: Plan, store: UnitStore) -> list[Entry]:
    """Test results by how many recordings were labeled: a curve per metric, strategy, and seed."""
    from egl_fast.evaluation.simulation.tables import result_rows

    entries = []
    for row in result_rows(plan, plan.expand(store), store):
        curve = f"{row['strategy'] or 'ends'}/{row['mode']}/seed-{row['seed']}"
        values = {f"{metric}/{curve}": row[metric] for metric in ("ctc_loss", "cer", "wer")}
        key = f"{curve}/{row['round']}/{row['query']}/{row['unit']}"
        entries.append(Entry(key, row["num_labeled"], values))
    return entries


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
    results: _Results,
    on_ray: UnitsOnRay | None = None,
) -> None:
    from egl_fast.evaluation.simulation.run_folder import refresh_tables
    from egl_fast.evaluation.simulation.work import state_of, work

    def refresh() -> None:
        refresh_tables(plan, store, run_dir)
        results.tell()

    state = state_of(plan.expand(store), store, workers=jobs)
    say(f"{state.total} units of work, {state.done} of them done: {store.root}")
    waiting = _Waiting()
    refresh()
    if on_ray is None:
        helpers = _helpers(jobs, run_dir)
    else:
        helpers = _helping_threads(jobs, plan, store.root, on_ray)
    with helpers, _watcher(store, state, waiting, refresh, results.watch) as watcher:
        expansion = work(plan, store, watcher, device=place, do=on_ray)
    refresh_tables(plan, store, run_dir, on_wait=lambda holder: waiting.say([holder]))
    results.tell()
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
    store: UnitStore,
    state: State,
    waiting: _Waiting,
    refresh: Callable[[], None],
    watch: Listeners,
) -> Iterator[Watcher]:
    """Tells of progress, also on standard error, and refreshes the tables after each unit."""
    from egl_fast.evaluation.simulation.work import Watcher

    with operations.shown(watch, with_time_left=False):
        watch.started("units", "units", state.total, state.done)
        current, latest = ["", ""], state

        def on_start(unit: Unit, now: State) -> None:
            nonlocal latest
            current[:], latest = (unit.title, _left(now)), now
            watch.progressed(now.done, now.total, note=": ".join(current))

        def on_note(words: str) -> None:
            note = f"{current[0]}: {words}{current[1]}"
            watch.progressed(latest.done, latest.total, note=note)

        def on_finish(unit: Unit, expansion: Expansion, now: State) -> None:
            nonlocal latest
            latest = now
            refresh()
            watch.progressed(now.done, now.total, note=unit.title)
            say(f"{now.done}/{now.total} {_outcome(unit, store)}{_left(now)}")

        def on_wait(now: State, holders: Sequence[str]) -> None:
            waiting.say(holders)
            note = f"waiting for the other processes{_left(now)}"
            watch.progressed(now.done, now.total, note=note)

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
