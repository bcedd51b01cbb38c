"""Where numbers can go: a small class for each tool, whose package is imported when it is made."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

#: MLflow refuses longer values of parameters.
_MLFLOW_LONGEST: Final = 500


class Backend(Protocol):
    """One run in one tool.

    Attributes:
        run: how the tool finds the run again; "" if it needs nothing for that.
    """

    run: str

    def __init__(
        self, place: str, run: str, *, name: str, axis: str, settings: Mapping[str, Any]
    ) -> None:
        """Begin a run, or continue one.

        Args:
            place: what the user gave: a folder, a project, an address.
            run: of one to be continued, else "".
            name: for people.
            axis: what steps count.
            settings: plain values that decide the numbers.
        """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, at a step; steps come in any order."""

    def close(self, *, finished: bool) -> None:
        """End, or interrupt, the run."""


class TensorBoard:
    """Event files in a folder."""

    run = ""

    def __init__(
        self, place: str, run: str, *, name: str, axis: str, settings: Mapping[str, Any]
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(place)
        self._writer.add_text("settings", f"```json\n{json.dumps(settings, indent=2)}\n```")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Backend``."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """See ``Backend``."""
        self._writer.close()


class WeightsAndBiases:
    """A run of a project; ``WANDB_MODE=offline`` keeps it on this machine."""

    def __init__(
        self, place: str, run: str, *, name: str, axis: str, settings: Mapping[str, Any]
    ) -> None:
        import wandb

        self.run = run or secrets.token_hex(4)
        self._axis = axis
        self._run: Any = wandb.init(
            project=place, id=self.run, resume="allow", name=name, config=dict(settings),
            settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
        # Its own steps only ever grow.
        self._run.define_metric(axis)
        self._run.define_metric("*", step_metric=axis)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Backend``."""
        self._run.log({self._axis: step, **values})

    def close(self, *, finished: bool) -> None:
        """See ``Backend``."""
        self._run.finish(exit_code=0 if finished else 1)


class MLflow:
    """A run of the experiment "egl-fast" on a tracking server or in a database."""

    def __init__(
        self, place: str, run: str, *, name: str, axis: str, settings: Mapping[str, Any]
    ) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(place)
        if run:
            self._client.update_run(run, "RUNNING")
            self.run = run
            return
        found = self._client.get_experiment_by_name("egl-fast")
        home = self._client.create_experiment("egl-fast") if found is None else found.experiment_id
        self.run = self._client.create_run(home, run_name=name).info.run_id
        for key, value in settings.items():
            shown = (value if isinstance(value, str) else json.dumps(value))[:_MLFLOW_LONGEST]
            self._client.log_param(self.run, key, shown)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See ``Backend``."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(_allowed(name), x, now, step) for name, x in values.items()]
        self._client.log_batch(self.run, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        """See ``Backend``."""
        self._client.set_terminated(self.run, "FINISHED" if finished else "KILLED")


def _allowed(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)


#: What users call them -> the class, and the module it takes.
BACKENDS: Final[dict[str, tuple[type[Backend], str]]] = {
    "tensorboard": (TensorBoard, "tensorboard"),
    "wandb": (WeightsAndBiases, "wandb"),
    "mlflow": (MLflow, "mlflow"),
}
