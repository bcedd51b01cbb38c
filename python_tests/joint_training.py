"""What ``test_joint_training`` runs in each of several processes that train together.

Called with a folder that has the recordings, ``all.jsonl``; leaves ``RANK.json`` there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from recordings import random_checkpoint
from run_states import state_in, timeless
from training_runs import CONFIG

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError, EglError, ManifestError
from egl_fast.training import batches
from egl_fast.training.examples import prepare_examples
from egl_fast.training.loop import Progress, Trainer
from egl_fast.training.processes import Processes, connected, counted

#: 1.5 s a batch: two of the shortest recordings, then fewer than there are processes.
IN_DOUBLE = replace(CONFIG, optimizer="sgd", max_epochs=2, spec_augment=True, speed_perturb=0.1)
WITH_DROPOUT = replace(CONFIG, max_epochs=2, speed_perturb=0.1)


def trainer_of(folder: Path, name: str, config: Any, processes: Processes, **more: Any) -> Trainer:
    dropout = 0.2 if config is WITH_DROPOUT else 0.0
    checkpoint = random_checkpoint(dropout=dropout, seed=7 + processes.rank)
    if processes.is_first:
        checkpoint = random_checkpoint(dropout=dropout, seed=7)
    found = prepare_examples(
        read_manifest(folder / "all.jsonl"), checkpoint, processes=processes
    ).examples
    return Trainer(
        checkpoint,
        config,
        train=found,
        valid=found,
        run_dir=folder / name,
        processes=processes,
        **more,
    )


def in_double(folder: Path, name: str, processes: Processes) -> dict[str, Any]:
    """Losses of all batches and epochs, and the weights, of a run in float64."""
    trainer = trainer_of(folder, name, IN_DOUBLE, processes)
    model = trainer.checkpoint.model.double()
    model.register_forward_pre_hook(lambda _, given: (given[0].double(), *given[1:]))
    losses: list[float | None] = []
    trainer.start()
    trainer.run(Progress(lambda epoch, batch, num_batches, loss: losses.append(loss)))
    return {
        "losses": losses,
        "history": timeless([vars(m) for m in trainer.history]),
        "state": {key: value.tolist() for key, value in model.state_dict().items()},
    }


def failing_once(rank: int, processes: Processes) -> Any:
    """Lets the first recording that a process trains on be unreadable."""
    read, calls = batches.load_audio, []

    def load(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if processes.rank == rank and len(calls) == 1:
            raise AudioError("rec: is gone")
        return read(*arguments, **named)

    return patch.object(batches, "load_audio", load)


def stopped_and_resumed(folder: Path, processes: Processes) -> list[str]:
    """What ends a run on the way, until it ends by itself."""

    def run(progress: Progress = Progress()) -> str:  # noqa: B008
        trainer = trainer_of(folder, "resumed", WITH_DROPOUT, processes)
        trainer.resume()
        try:
            trainer.run(progress)
        except (EglError, KeyboardInterrupt) as error:
            return f"{type(error).__name__} {error} {trainer.unfinished is not None}"
        return "finished"

    # Only the second process is asked to stop, and then meets a recording that is gone.
    said = [run(Progress(stop=lambda: processes.rank == 1))]
    with failing_once(1, processes):
        said.append(run())
    return [*said, run()]


def refusals(processes: Processes) -> list[str]:
    """What is raised in this process when only the other one has something to complain of."""

    def error_of(step: Callable[[], object]) -> str:
        try:
            step()
        except EglError as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    def complaining_in_the_second() -> None:
        with processes.together():
            if processes.rank == 1:
                raise ManifestError("no such file")

    return [
        error_of(complaining_in_the_second),
        error_of(lambda: processes.refuse_differences({"k": 1, "train": "hash"})),
        error_of(lambda: processes.refuse_differences({"k": 1 + processes.rank})),
    ]


def main(folder: Path) -> None:
    """Everything, in one connection."""
    processes = counted()
    with connected():
        found: dict[str, Any] = {"double": in_double(folder, "double", processes)}
        whole = trainer_of(folder, "whole", WITH_DROPOUT, processes)
        whole.start()
        whole.run()
        found["history"] = timeless([vars(m) for m in whole.history])
        found["ends"] = stopped_and_resumed(folder, processes)
        found["refusals"] = refusals(processes)
        if processes.is_first:
            found["same"] = [
                state_in(folder / "whole" / name) == state_in(folder / "resumed" / name)
                for name in ("last.pt", "model.pt")
            ]
        found["files"] = sorted(path.name for path in folder.glob("*/*"))
    (folder / f"{processes.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
