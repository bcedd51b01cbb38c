"""``egl-fast simulate`` from end to end, on made-up recordings and the smallest model."""

from __future__ import annotations

import copy
import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from simulations import CONFIG, edit_manifest, write_simulation

from egl_fast.checkpoint import Checkpoint, load_checkpoint
from egl_fast.cli.main import main
from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.evaluation.table_columns import CONTROLS
from egl_fast.recognizers.checkpoint import classes_of, recognizer_of
from egl_fast.records import STRATEGIES, from_json, random_score
from egl_fast.scorer import Scorer
from egl_fast.scoring.run.pool import PoolScoring
from egl_fast.training.metrics import count_edits, error_rates, transcribe
from egl_fast.training.texts import reference_labels

Run = Callable[..., tuple[int, str, str]]

ALL = [*STRATEGIES, *CONTROLS]
CHANGES = (
    *("--set", f"strategies={json.dumps(ALL)}", "--set", 'queries=["25%"]'),
    *("--set", "scoring.full=true", "--set", "scoring.full_samples=2", "--set", "seeds=[0,1]"),
    *("--set", "scoring.word_confidence=true", "--set", "scoring.mc_dropout=2"),
    *("--set", "model.dropout=0.3"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and its recordings."""
    folder = tmp_path_factory.mktemp("data")
    write_simulation(folder)
    return folder


def call_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["egl-fast", "simulate", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the command in this process: exit status, standard output, standard error."""
    return lambda *arguments: call_main(monkeypatch, capsys, *arguments, "--threads", 1)


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command in its own process."""
    return commands.start("simulate", *arguments, "--threads", "1")


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert (process.returncode, out) == (0, ""), err
    return err


def results_of(run_dir: Path) -> tuple[bytes, dict[str, bytes]]:
    scores = {p.name: p.read_bytes() for p in sorted((run_dir / "scores").iterdir())}
    return (run_dir / "results.csv").read_bytes(), scores


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an undisturbed simulation of every strategy."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    arguments = ("--config", data / "config.toml", "--run-dir", run_dir, *CHANGES, "--threads", 1)
    assert commands.in_this_process("simulate", *arguments) == 0
    return run_dir


def test_the_tables_hold_every_point(whole: Path, data: Path) -> None:
    results = pl.read_parquet(whole / "results.parquet")
    assert pl.read_csv(whole / "results.csv").fill_null("").equals(results)
    keys = ["mode", "seed", "strategy", "query", "round"]
    assert results.select(keys).rows() == [
        ("single", seed, *point)
        for seed in (0, 1)
        for point in [("", "0%", 0), *((name, "25%", 1) for name in ALL), ("", "100%", 1)]
    ]
    recordings = read_manifest(data / "all.jsonl")
    seconds = {
        part: sum(c.duration_seconds or 0 for c in recordings if c.record["part"] == part)
        for part in ("base", "pool")
    }
    assert set(results["pool_clips"]) == {8}
    assert set(results["base_clips"]) == {4}
    assert results["pool_seconds"].to_list() == pytest.approx([seconds["pool"]] * len(results))
    assert results["base_seconds"].to_list() == pytest.approx([seconds["base"]] * len(results))
    assert set(results.filter(pl.col("query") == "25%")["num_labeled"]) == {2}
    assert set(results.filter(pl.col("query") == "25%")["fraction"]) == {0.25}
    full = results.filter(pl.col("query") == "100%")
    assert full["labeled_seconds"].to_list() == full["pool_seconds"].to_list()
    assert set(results["epochs"]) == {2}


def test_the_numbers_are_those_of_the_models(whole: Path, data: Path) -> None:
    results = pl.read_parquet(whole / "results.parquet").filter(pl.col("query") == "0%")
    tests = pl.read_parquet(whole / "test_utterances.parquet")
    assert set(tests["unit"]) == set(pl.read_parquet(whole / "results.parquet")["unit"])
    test_recordings = [c for c in read_manifest(data / "all.jsonl") if c.record["part"] == "test"]
    for row in results.iter_rows(named=True):
        model = load_checkpoint(whole / "units" / row["unit"] / "model.pt")
        [transcripts] = transcribe(
            recognizer_of(model), test_recordings, batch_seconds=2, with_loss=True
        )
        rates = error_rates(transcripts)
        assert (row["ctc_loss"], row["cer"], row["wer"]) == (rates.loss, rates.cer, rates.wer)
        own = tests.filter(pl.col("unit") == row["unit"])
        assert own["id"].to_list() == [utterance.id for utterance in test_recordings]
        assert own["ctc_loss"].to_list() == [t.loss for t in transcripts]
        assert own["char_errors"].sum() / own["num_chars"].sum() == row["cer"]
        assert own["word_errors"].sum() / own["num_words"].sum() == row["wer"]
        assert own["num_chars"].to_list() == [len(u.text or "") for u in test_recordings]
        per_char = own["ctc_loss"].sum() / own["num_chars"].sum()
        assert row["ctc_loss_per_char"] == pytest.approx(per_char)


def test_the_pool_is_scored_and_the_best_are_picked(whole: Path, data: Path) -> None:
    pool = [c for c in read_manifest(data / "all.jsonl") if c.record["part"] == "pool"]
    picks = pl.read_parquet(whole / "picks.parquet")
    assert set(picks["round"]) == {1}
    base = pl.read_parquet(whole / "results.parquet").filter(pl.col("query") == "0%")
    for seed, unit in base.select("seed", "unit").rows():
        lines = pl.read_parquet(whole / "scores" / f"seed-{seed}.parquet").to_dicts()
        assert [line["id"] for line in lines] == [utterance.id for utterance in pool]
        scorer = Scorer.from_checkpoint(whole / "units" / unit / "model.pt")
        model = load_checkpoint(whole / "units" / unit / "model.pt")
        [truth] = transcribe(recognizer_of(model), pool, batch_seconds=2, with_loss=True)
        for line, utterance, transcript in zip(lines, pool, truth, strict=True):
            [record] = scorer.score_waveforms(
                [load(utterance)], sample_rate_hz=16000, k=4, ids=[utterance.id], seed=seed
            )
            assert line["egl"] == pytest.approx(record.egl, rel=1e-4)
            assert line["pred_text"] == record.pred_text
            assert line["random"] == random_score(seed, utterance.id)
            assert (line["text"], line["nr"]) == (utterance.text, utterance.record["nr"])
            assert line["longest"] == -line["shortest"] == utterance.duration_seconds
            assert line["oracle_loss"] == pytest.approx(transcript.loss)
            errors = count_edits(utterance.text or "", transcript.text)
            assert line["oracle_cer"] == errors.char_edits / max(1, errors.chars)
            # A loop's squared norm in float32 against that of float64 cotangents.
            assert line["oracle_gradient"] == pytest.approx(
                true_gradient(model, utterance), rel=1e-4
            )
            assert not Path(line["audio_filepath"]).is_absolute()
            audio = whole / "scores" / line["audio_filepath"]
            assert audio.resolve() == utterance.audio_path.resolve()
            own = picks.filter((pl.col("seed") == seed) & (pl.col("id") == utterance.id))
            hypotheses = line.pop("hypotheses")
            assert 1 <= len(hypotheses) <= 2 if len(own) else hypotheses is None
            from_json(line)
        for strategy in ALL:
            own = picks.filter(
                (pl.col("strategy") == strategy)
                & (pl.col("seed") == seed)
                & (pl.col("mode") == "single")
            )
            best = sorted(lines, key=lambda line: -line[strategy])[:2]
            assert own["id"].to_list() == [line["id"] for line in best]
            assert own["rank"].to_list() == [1, 2]


def true_gradient(checkpoint: Checkpoint, utterance: Utterance) -> float:
    """Squared gradient length of torch's CTC loss."""
    features = load_spectrogram(utterance, checkpoint.features).features[None]
    model = copy.deepcopy(checkpoint.model).double().eval()
    logits, frames = model(features.double(), torch.tensor([features.shape[1]]))
    labels = torch.tensor([reference_labels(utterance, classes_of(checkpoint))])
    loss = F.ctc_loss(
        logits.log_softmax(2).transpose(0, 1),
        labels,
        frames,
        torch.tensor([labels.shape[1]]),
        reduction="sum",
    )
    gradients = torch.autograd.grad(loss, tuple(model.parameters()))
    return sum(float(gradient.square().sum()) for gradient in gradients)


def load(utterance: Utterance) -> Any:
    import soundfile

    return soundfile.read(utterance.audio_path, dtype="float32")[0]


def test_seeds_train_different_models(whole: Path) -> None:
    results = pl.read_parquet(whole / "results.parquet")
    losses = results.filter(pl.col("query") == "0%")["ctc_loss"].to_list()
    assert losses[0] != losses[1]
    first, second = (pl.read_parquet(whole / "scores" / f"seed-{s}.parquet") for s in (0, 1))
    assert not first.equals(second)


def test_only_small_files_and_the_models_that_matter_stay(whole: Path) -> None:
    for folder in (whole / "units").glob("*-*"):
        kind = folder.name.partition("-")[0]
        names = {path.name for path in folder.iterdir()}
        expected = {"spec.json", "result.json", "timing.json"}
        if kind == "score":
            expected |= {"scores.jsonl.gz"}
        else:
            expected |= {"metrics.jsonl", "test.csv.gz"}
        assert names == expected | ({"model.pt"} if kind == "base" else set())


def test_killed_and_shared_runs_come_to_the_same_bytes(
    whole: Path, data: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    arguments = ("--config", data / "config.toml", "--run-dir", killed, *CHANGES)
    process = start(*arguments)
    # In the middle of training, when some of the work is done.
    while not any((killed / "units").glob("train-*/run/last.pt")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.kill()
    process.communicate()
    done = set((killed / "units").glob("*/result.json"))
    times = {path: path.stat().st_mtime_ns for path in done}
    assert 0 < len(done) < len(list((whole / "units").glob("*/result.json")))
    err = finish(start(*arguments, "--jobs", 2))
    assert f"{len(done)} of them done" in err
    assert {path: path.stat().st_mtime_ns for path in done} == times
    assert results_of(killed) == results_of(whole)
    assert {p.name for p in (killed / "units").iterdir()} == {
        p.name for p in (whole / "units").iterdir()
    }
    assert not list((killed / "units").glob("*/run"))


@pytest.mark.slow
def test_the_demonstration_comes_to_the_same_bytes_twice(examples: Path, tmp_path: Path) -> None:
    # Real recordings, including outliers and empty texts; fewer epochs, to save time.
    few = ("--set", "base_training.max_epochs=2", "--set", "training.max_epochs=1")
    config = ("--config", examples / "simulate.toml", *few)
    finish(start(*config, "--run-dir", tmp_path / "alone"))
    finish(start(*config, "--run-dir", tmp_path / "shared", "--jobs", 2))
    assert results_of(tmp_path / "alone") == results_of(tmp_path / "shared")
    results = pl.read_parquet(tmp_path / "alone" / "results.parquet")
    assert len(results) == 2 + 4 * 2
    assert results["cer"].is_between(0, 2).all()


def test_helper_processes_end_with_the_main_process(data: Path, tmp_path: Path) -> None:
    endless = ("--set", "training.max_epochs=100000", "--set", "training.patience=0")
    config = ("--config", data / "config.toml", "--set", "seeds=[0,1]", *endless)
    process = start(*config, "--run-dir", tmp_path / "run", "--jobs", 2)
    while len(list((tmp_path / "run" / "units").glob("base-*/run/metrics.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/exe").exists() for pid in children):
        assert time.monotonic() < deadline, "a helper process outlives the first"
        time.sleep(0.01)


def test_a_finished_run_is_only_read_again(run: Run, whole: Path, data: Path) -> None:
    before = results_of(whole)
    (whole / "scores" / "seed-7.parquet").write_text("of a run with more seeds")
    for name in ("results.csv", "picks.parquet", "test_utterances.parquet", "results.parquet"):
        (whole / name).unlink()
    mtimes = {path: path.stat().st_mtime_ns for path in (whole / "units").rglob("*.*")}
    status, _, err = run("--config", whole / "config.toml", "--run-dir", whole)
    assert status == 0, err
    assert "another configuration" not in err
    assert results_of(whole) == before
    assert {p: p.stat().st_mtime_ns for p in (whole / "units").rglob("*.*")} == mtimes


def test_results_are_reported(run: Run, whole: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shared = ("--units", whole / "units", "--report-to", f"tensorboard:{tmp_path / 'events'}")
    for _ in range(2):
        arguments = ("--config", data / "config.toml", "--run-dir", tmp_path / "run", *CHANGES)
        assert run(*arguments, *shared)[0] == 0
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").read_text().splitlines()))
    for row in rows:
        name = f"cer/{row['strategy'] or 'ends'}/{row['mode']}/seed-{row['seed']}"
        points = [(e.step, e.value) for e in events.Scalars(name)]
        assert points.count((int(row["num_labeled"]), pytest.approx(float(row["cer"])))) == 1


def test_another_configuration_of_the_folder_is_announced(
    run: Run, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    less = ["--set", 'strategies=["random"]']
    status, _, err = run("--config", whole / "config.toml", "--run-dir", folder, *less)
    assert status == 0, err
    assert f"{folder} held a run with another configuration: its tables are made again" in err
    assert len(results_of(folder)[0]) < len(results_of(whole)[0])


def test_models_that_are_gone_are_made_again_only_if_needed(
    run: Run, whole: Path, data: Path, tmp_path: Path
) -> None:
    config = ("--config", whole / "config.toml")
    share = ("--units", tmp_path / "units")
    less = ("--set", 'strategies=["random"]', "--set", "seeds=[0]")
    status, _, err = run(*config, "--run-dir", tmp_path / "a", *share, *less)
    assert status == 0, err
    [model] = (tmp_path / "units").glob("base-*/model.pt")
    weights = load_checkpoint(model).model.state_dict()
    model.unlink()
    assert run(*config, "--run-dir", tmp_path / "a", *share, *less)[0] == 0
    assert not model.exists()
    more = ("--set", 'strategies=["random", "longest"]', "--set", "seeds=[0]")
    status, _, err = run(*config, "--run-dir", tmp_path / "b", *share, *more)
    assert status == 0, err
    # The base model again and one query of a new strategy, nothing else.
    assert sum(line[0].isdigit() and "/" in line.split()[0] for line in err.splitlines()) == 2
    again = load_checkpoint(model).model.state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in weights.items())
    rows = (tmp_path / "b" / "results.csv").read_text().splitlines()
    assert set((tmp_path / "a" / "results.csv").read_text().splitlines()) < set(rows)
    assert set(rows) < set((whole / "results.csv").read_text().splitlines())


def test_in_rounds_only_the_base_models_stay_unless_asked_for(
    run: Run, data: Path, tmp_path: Path
) -> None:
    arguments = (
        *("--config", data / "config.toml", "--units", tmp_path / "units"),
        *("--set", 'modes=["sequential"]', "--set", 'strategies=["shortest", "egl"]'),
    )
    assert run(*arguments, "--run-dir", tmp_path / "a")[0] == 0
    kept = {path.parent.name.partition("-")[0] for path in (tmp_path / "units").glob("*/model.pt")}
    assert kept == {"base"}
    picks = pl.read_parquet(tmp_path / "a" / "picks.parquet")
    own = picks.filter(pl.col("strategy") == "egl")
    assert own["round"].to_list() == [1, 1, 2, 2]
    assert own["rank"].to_list() == [1, 2, 3, 4]
    assert own["id"].n_unique() == 4
    results = pl.read_parquet(tmp_path / "a" / "results.parquet")
    assert results["round"].to_list() == [0, 1, 2, 1, 2, 1]
    keep = ("--set", "keep_models=true", "--set", "seeds=[5]", "--set", 'strategies=["shortest"]')
    assert run(*arguments, *keep, "--run-dir", tmp_path / "b")[0] == 0
    trained = list((tmp_path / "units").glob("train-*/model.pt"))
    assert len(trained) == 3


def test_the_scorer_never_sees_a_label(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Utterance] = []
    original = PoolScoring.outcomes

    def spy(self: PoolScoring, utterances: list[Utterance], **kwargs: Any) -> Any:
        seen.extend(utterances)
        return original(self, utterances, **kwargs)

    monkeypatch.setattr(PoolScoring, "outcomes", spy)
    assert run("--config", data / "config.toml", "--run-dir", tmp_path / "run")[0] == 0
    assert len(seen) == 8
    texts = {"ab", "no"}
    for utterance in seen:
        assert utterance.text is None
        assert not texts & set(map(str, utterance.record.values()))


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(
    run: Run, data: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    status, out, _ = run("--config", data / "config.toml", "--run-dir", run_dir, "--dry-run")
    assert status == 0
    assert not run_dir.exists()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["pool"][0] == "8"
    assert (rows["base"][0], rows["score"][0], rows["train"][0]) == ("1", "1", "5")
    assert out.splitlines()[-1] == "7 units, 0 done"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("max_epochs = 2", "max_epoch = 2", "unknown key training.max_epoch"),
        ('{ part = "test" }', '{ part = ["test", "base"] }', "is the same recording as"),
        ('"50%"', '"101%"', "more than there is"),
        (CONFIG, CONFIG, "has no text"),
    ],
)
def test_a_wrong_configuration_ends_at_once_with_its_line(
    run: Run, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    path = write_simulation(tmp_path, CONFIG.replace(old, new))
    if old == new:
        edit_manifest(tmp_path, 5, text=None)
    run_dir = tmp_path / "run"
    status, out, err = run("--config", path, "--run-dir", run_dir)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"config {path}, line " in err
    assert complaint in err
    assert not run_dir.exists()


def test_a_recording_that_cannot_be_scored_ends_the_run_in_one_line(
    run: Run, tmp_path: Path
) -> None:
    path = write_simulation(tmp_path)
    content = (tmp_path / "pool6.wav").read_bytes()
    (tmp_path / "pool6.wav").write_bytes(b"broken" + content[6:])
    status, _, err = run("--config", path, "--run-dir", tmp_path / "run")
    assert status == 2
    assert "pool6.wav" in err.splitlines()[-1]
    assert "filter it out" in err.splitlines()[-1]


def test_a_missing_package_is_named(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    status, _, err = run("--config", data / "config.toml", "--run-dir", tmp_path / "run")
    assert status == 2
    assert "pip install 'egl-fast[simulate]'" in err
