"""``--engine``: where recordings are scored, in this process or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from egl_fast.cli import options as common
from egl_fast.cli.extras import require_packages

if TYPE_CHECKING:
    from egl_fast.ray.units import UnitsOnRay
    from egl_fast.ray.workers import Request
    from egl_fast.scoring.run.scoring import Scoring

#: For ``refuse_idle_options``.
NEEDS_RAY: Final = dict.fromkeys(("--address", "--workers", "--gpus-per-worker"), "--engine ray")
BESIDE_RAY: Final = {"--device": "--engine ray"}


@dataclass(frozen=True)
class Engine:
    """Where to score; the numbers are for Ray, None where the cluster decides."""

    name: str
    address: str | None
    workers: int | None
    gpus_per_worker: float

    def request(self, threads: int | None) -> Request:
        """What is asked of Ray. Raises ``MissingExtraError``."""
        require_packages("--engine ray", {"ray": "ray"}, extra="ray")
        from egl_fast.ray.workers import Request

        return Request(self.workers, threads, self.gpus_per_worker)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--engine`` and what it takes; the command gets an ``Engine`` as ``engine``."""

    @wraps(command)
    def with_engine(*arguments: Any, **values: Any) -> Any:
        names = ("engine", "address", "workers", "gpus_per_worker")
        engine = Engine(*(values.pop(name) for name in names))
        return command(*arguments, **values, engine=engine)

    decorators: Sequence[common.Decorator] = (
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Where to compute: in this process, or by workers on a Ray cluster "
            "(docs/scale.md).",
        ),
        click.option(
            "--address",
            metavar="ADDRESS",
            help="Of the Ray cluster: HOST:PORT, or auto for the one of this machine [default: "
            "$RAY_ADDRESS, or else one is started here].",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Workers, each with the model and --threads CPUs [default: as many as fit, or "
            "one per node if --threads is not given].",
        ),
        click.option(
            "--gpus-per-worker",
            type=common.FiniteFloat(min=0),
            metavar="N",
            default=0.0,
            show_default=True,
            help="GPUs of each worker, such as 1, or 0.5 for two workers per GPU; 0: on CPUs.",
        ),
    )
    found: Callable[..., Any] = with_engine
    for decorator in reversed(decorators):
        found = decorator(found)
    return found


def start(
    engine: Engine,
    model_spec: str,
    device: str,
    threads: int | None,
    *,
    params: str | None,
    memory_bytes: int | None,
    precision: Any,
) -> Callable[..., Scoring]:
    """Load the model, here or on the cluster, for as long as the command runs.

    Returns:
        What ``pool_scoring`` does, without its first argument.

    Raises:
        EglError: the model cannot be loaded, or the cluster not be reached.
        click.UsageError: the device lacks the precision.
    """
    if engine.name == "ray":
        return _on_ray(engine.request(threads), engine.address, model_spec,
                       params=params, memory_bytes=memory_bytes, precision=precision)  # fmt: skip
    from functools import partial

    from egl_fast.scorer import pool_scoring

    place = common.set_up_torch(device, threads)
    scorer = common.load_scorer(
        model_spec, place, params=params, memory_bytes=memory_bytes, precision=precision
    )
    return partial(pool_scoring, scorer)


def _on_ray(
    request: Request, address: str | None, model_spec: str, **model: Any
) -> Callable[..., Scoring]:
    from egl_fast.ray.connection import connected
    from egl_fast.ray.scoring import RayScoring
    from egl_fast.ray.worker import ModelPlan, ScoringPlan
    from egl_fast.ray.workers import Workers
    from egl_fast.scoring.options import ScoringOptions
    from egl_fast.scoring.run.provenance import counting_parameters

    context = click.get_current_context()
    context.with_resource(connected(address))
    try:
        workers = context.with_resource(Workers(request, ModelPlan(model_spec, **model)))
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None

    def scoring_with(scoring: ScoringOptions, **how: Any) -> Scoring:
        return RayScoring(workers, ScoringPlan(scoring, **how))

    if model["params"] is None:
        counting = workers.ask(ScoringPlan(ScoringOptions()), counting_parameters)
        if counting is not None:
            common.say_counting(*counting)
    return scoring_with


@contextmanager
def units_on_ray(engine: Engine, threads: int | None) -> Iterator[UnitsOnRay]:
    """What does units of a simulation on the cluster."""
    request = engine.request(threads)
    from egl_fast.ray.connection import connected
    from egl_fast.ray.units import UnitsOnRay

    with connected(engine.address):
        try:
            do = UnitsOnRay(request)
        except ValueError as error:
            raise click.UsageError(f"--{error}") from None
        yield do
