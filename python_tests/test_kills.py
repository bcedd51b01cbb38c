"""Runs that are killed at any moment and resumed end as if nothing had happened."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from commands import in_this_process, lines_of, refused, start, wait_until
from conftest import Run
from recordings import shortest, write_manifest
from run_states import state_in, timeless
from simulations import write_simulation

from egl_fast.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Resumable:
    """A command that resumes where it was stopped.

    Attributes:
        arguments: of the command, --resume among them.
        has_begun: whether a process of it has reached the work to be disturbed.
        is_as_undisturbed: called when it has finished: compares what it has written, and
            removes it.
        finished: the exit status of a run that finishes.
        longest: it is stopped at most this many seconds after it has begun.
        says_what_it_kept: called with what it says when interrupted.
    """

    arguments: Sequence[object]
    has_begun: Callable[[subprocess.Popen[str]], bool]
    is_as_undisturbed: Callable[[], None]
    finished: int
    longest: float
    says_what_it_kept: Callable[[str], None] = lambda said: None

    def stop(self, by: Sequence[signal.Signals], *, seed: int) -> int:
        """Stop it by these signals, one after the other, and then let it finish.

        Returns:
            How often it finished; early finishes are compared, and the run starts over.
        """
        rng = random.Random(seed)
        coming = list(by)
        num_finished = 0
        while True:
            process = start(*self.arguments)
            begun = wait_until(process, lambda process=process: self.has_begun(process))
            if begun and coming:
                time.sleep(rng.uniform(0.0, self.longest))
                process.send_signal(coming[0])
            out, err = process.communicate()
            if process.returncode == self.finished:
                self.is_as_undisturbed()
                num_finished += 1
                if not coming:
                    return num_finished
                continue
            assert coming, err
            number = coming.pop(0)
            assert process.returncode == (-number if number == signal.SIGKILL else 130), err
            assert "Traceback" not in err
            assert out == ""
            if number != signal.SIGKILL:
                self.says_what_it_kept(err)


def holds(lock: Path, process: subprocess.Popen[str]) -> bool:
    """Whether a process has taken a lock."""
    try:
        return f"process {process.pid} " in lock.read_text()
    except FileNotFoundError:
        return False


def scoring(folder: Path, model: Path | str, pool: Path, *options: object) -> Resumable:
    """``egl-fast score``, after one undisturbed run."""
    whole, out = folder / "whole.jsonl", folder / "scores.jsonl"
    arguments = ["score", "--model", model, "--pool", pool, "--threads", 1, *options, "--out"]
    started = time.monotonic()
    status = in_this_process(*arguments, whole)
    seconds = time.monotonic() - started
    assert status in (0, 3)

    def written(path: Path) -> dict[str, object]:
        found: dict[str, object] = {
            file.name.removeprefix(path.name): file.read_bytes()
            for file in folder.glob(f"{path.name}*")
        }
        metadata = json.loads(path.with_name(f"{path.name}.meta.json").read_bytes())
        del metadata["wall_seconds"]
        return {**found, ".meta.json": metadata}

    expected = written(whole)

    def is_as_undisturbed() -> None:
        assert written(out) == expected
        for file in folder.glob(f"{out.name}*"):
            file.unlink()

    return Resumable(
        [*arguments, out, "--resume"],
        lambda process: holds(out.with_name("scores.jsonl.lock"), process),
        is_as_undisturbed,
        status,
        seconds / 5,
    )


def training(folder: Path, data: Path, *options: object) -> Resumable:
    """``egl-fast train``, after one undisturbed run."""
    whole, run_dir = folder / "whole", folder / "run"
    arguments = ["train", "--train", data, "--valid", data, "--preset", "tiny", "--threads", 1]
    arguments += ["--dropout", 0.1, "--spec-augment", "--speed-perturb", 0.1, *options, "--run-dir"]
    started = time.monotonic()
    assert in_this_process(*arguments, whole) == 0
    seconds = time.monotonic() - started

    def written(path: Path) -> dict[str, object]:
        assert sorted(file.name for file in path.iterdir()) == [
            *("last.pt", "metrics.jsonl", "model.pt", "previous.pt", "settings.json")
        ]
        return {
            "state": state_in(path / "last.pt"),
            "model": state_in(path / "model.pt"),
            "metrics": timeless(lines_of((path / "metrics.jsonl").read_text())),
            "settings": (path / "settings.json").read_bytes(),
        }

    expected = written(whole)

    def is_as_undisturbed() -> None:
        assert written(run_dir) == expected
        shutil.rmtree(run_dir)

    return Resumable(
        [*arguments, run_dir, "--resume"],
        lambda process: holds(run_dir / ".lock", process),
        is_as_undisturbed,
        0,
        seconds / 4,
    )


def sample(folder: Path, examples: Path, *names: str) -> Path:
    """A manifest of recordings of the sample, and two that do not exist."""
    lines = [line for name in names for line in lines_of((examples / name).read_text())]
    for line in lines:
        line["audio_filepath"] = str(examples / line["audio_filepath"])
    lines[5:5] = [{"audio_filepath": "missing.wav"}]
    return write_manifest(folder / "pool.jsonl", [*lines, {"audio_filepath": "gone.wav"}])


def test_score_resumes_after_a_few_stops(
    tmp_path: Path, recordings: Path, tiny_model: Path
) -> None:
    lines = [
        {**line, "id": f"{n}-{line['audio_filepath']}"}
        for n in range(30)
        for line in lines_of(recordings.read_text())
    ]
    pool = write_manifest(tmp_path / "p.jsonl", [*lines, {"audio_filepath": "missing.wav"}])
    command = scoring(tmp_path, tiny_model, pool, "--k", 10)
    # What every step leaves on the disk: see test_resumable_scores. Here, real processes end.
    signals = [signal.SIGKILL, signal.SIGTERM]
    replace(command, longest=0.5).stop(signals, seed=1)


def test_a_model_of_hugging_face_is_killed_resumed_and_used(
    tmp_path: Path, examples: Path, run: Run
) -> None:
    folders = pytest.importorskip("huggingface_folders")
    spec = f"hf:{folders.save('wav2vec2, group norm', tmp_path / 'model')}"
    pool = write_manifest(tmp_path / "p.jsonl", [
        {**one.record, "audio_filepath": str(one.audio_path)} for one in shortest(examples, 12)
    ])  # fmt: skip
    folder = tmp_path / "scores"
    folder.mkdir()
    command = scoring(folder, spec, pool, "--k", 20)
    replace(command, longest=0.5).stop([signal.SIGKILL], seed=0)

    scores = folder / "whole.jsonl"
    status, out, _ = run("select", scores, "--budget", "25%")
    assert status == 0
    assert len(out.splitlines()) == 3
    page = tmp_path / "page.html"
    assert run("report", "--scores", scores, "--out", page)[0] == 0
    assert lines_of(out)[0]["id"] in page.read_text()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_when_all_is_done_changes_nothing(
    tmp_path: Path, recordings: Path, tiny_model: Path, by: signal.Signals
) -> None:
    out = tmp_path / "scores.jsonl"
    arguments = (
        "--model",
        tiny_model,
        "--pool",
        recordings,
        "--k",
        2,
        "--threads",
        1,
        "--out",
        out,
    )
    process = start("score", *arguments)
    assert wait_until(process, out.exists)
    time.sleep(0.1)  # The interpreter is about to end, which with torch takes a few tenths.
    process.send_signal(by)
    _, err = process.communicate()
    assert process.returncode == 0, err


@pytest.mark.slow
def test_score_resumes_after_a_hundred_kills(tmp_path: Path, examples: Path) -> None:
    pool = sample(tmp_path, examples, "pool.jsonl", "test.jsonl")
    options = ("--k", 4, "--method", "probe", "--probes", 2, "--full", "--full-samples", 2)
    command = scoring(tmp_path, examples / "base.pt", pool, *options)
    command.stop([signal.SIGKILL] * 100, seed=0)


@pytest.mark.slow
def test_score_resumes_after_ten_signals(tmp_path: Path, examples: Path) -> None:
    pool = sample(tmp_path, examples, "pool.jsonl")
    command = scoring(tmp_path, examples / "base.pt", pool, "--k", 4, "--method", "lowrank")
    command.stop([signal.SIGTERM, signal.SIGINT] * 5, seed=0)


def test_train_resumes_after_a_few_stops(tmp_path: Path, recordings: Path) -> None:
    options = ("--max-epochs", 10, "--patience", 0, "--batch-seconds", 0.8, "--save-minutes", 0)
    command = training(tmp_path, recordings, *options)
    run_dir = tmp_path / "run"
    before: dict[int, int] = {}

    def has_trained(process: subprocess.Popen[str]) -> bool:
        """Whether this process has finished an epoch."""
        if not holds(run_dir / ".lock", process) or not (run_dir / "metrics.jsonl").exists():
            return False
        num_epochs = len((run_dir / "metrics.jsonl").read_bytes().splitlines())
        return num_epochs > before.setdefault(process.pid, num_epochs)

    def says_what_it_kept(said: str) -> None:
        assert "\nfinishing the batch" in said
        line = said.splitlines()[-1]
        assert re.fullmatch(r"interrupted in epoch \d+; .* --resume continues", line)
        load_checkpoint(run_dir / "model.pt")

    # What every step leaves on the disk: see test_training_crashes. Here, real processes end.
    signals = [signal.SIGKILL, signal.SIGINT]
    command = replace(command, has_begun=has_trained, says_what_it_kept=says_what_it_kept)
    replace(command, longest=0.0).stop(signals, seed=1)


@pytest.mark.slow
def test_train_resumes_after_twenty_kills(tmp_path: Path, examples: Path) -> None:
    options = ("--max-epochs", 5, "--patience", 0, "--batch-seconds", 15, "--save-minutes", 0.02)
    command = training(tmp_path, examples / "train.jsonl", *options)
    command.stop([signal.SIGKILL] * 20, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("first", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSTOP])
def test_a_disturbed_simulation_does_not_harm_another(
    tmp_path: Path, first: signal.Signals
) -> None:
    config = write_simulation(tmp_path)
    arguments = ["simulate", "--config", config, "--threads", 1, "--run-dir"]
    assert in_this_process(*arguments, tmp_path / "whole") == 0
    expected = simulated(tmp_path / "whole")
    rng = random.Random(int(first))
    for number in range(3):
        run_dir = tmp_path / str(number)
        locks = run_dir / "units" / ".locks"
        disturbed, other = (start(*arguments, run_dir) for _ in range(2))
        for process in (disturbed, other):
            wait_until(process, lambda locks=locks: any(locks.glob("*")))
        time.sleep(rng.uniform(0, 2))
        disturbed.send_signal(first)
        if first == signal.SIGSTOP:
            time.sleep(3)
            # It may hold a lock that the other needs, and must not lose it.
            disturbed.send_signal(signal.SIGCONT)
        _, err = other.communicate()
        assert other.returncode == 0, err
        _, disturbed_err = disturbed.communicate()
        assert "Traceback" not in disturbed_err
        if first == signal.SIGSTOP:
            assert disturbed.returncode == 0, disturbed_err
        else:
            assert disturbed.returncode in (0, -first if first == signal.SIGKILL else 130)
        assert simulated(run_dir) == expected
        # Each unit was finished by one of them.
        done = re.findall(r"^\d+/\d+ .*\((\w+-\w+)\)", err + disturbed_err, re.MULTILINE)
        assert len(done) == len(set(done))
        assert not list(run_dir.glob("**/*.partial*"))


def simulated(run_dir: Path) -> dict[str, object]:
    """What a simulation leaves, except for times."""
    return {
        str(path.relative_to(run_dir)): state_in(path)
        if path.suffix == ".pt"
        else path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file()
        and path.name not in ("timing.json", "metrics.jsonl")
        and ".lock" not in str(path)
    }


@pytest.mark.slow
def test_a_simulation_with_another_configuration_is_refused(tmp_path: Path) -> None:
    config = write_simulation(tmp_path)
    arguments = ["simulate", "--config", config, "--threads", 1, "--run-dir", tmp_path / "run"]
    with start(*arguments) as first:
        wait_until(first, (tmp_path / "run" / "config.toml").exists)
        line = refused(*arguments, "--set", "seeds=[1]")
        assert f"another configuration is at work there, started by process {first.pid} on" in line
        _, err = first.communicate()
    assert first.returncode == 0, err
    assert "seeds = [\n    0,\n]" in (tmp_path / "run" / "config.toml").read_text()
