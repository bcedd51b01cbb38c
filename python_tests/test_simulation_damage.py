"""Units whose results were edited, cut short, or mixed up are named, not used."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from simulations import plan_of, pretend_unit

from egl_fast.errors import CheckpointError, OutputError
from egl_fast.evaluation.simulation.execution import execute
from egl_fast.evaluation.simulation.plan import Plan
from egl_fast.evaluation.simulation.store import UnitStore
from egl_fast.evaluation.simulation.tables import write_tables
from egl_fast.evaluation.simulation.units import ScoreUnit

Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A plan, and the folder of its units, all done."""
    folder = tmp_path_factory.mktemp("data")
    plan, store = plan_of(folder), UnitStore(folder / "units")
    while left := [u for u in plan.expand(store).units.values() if not store.is_done(u.name)]:
        pretend_unit(left[0], plan, store)
    return plan, store.root


def of_lines(change: Callable[[list[str]], list[str]]) -> Damage:
    """A change to the lines of a compressed file."""

    def damage(content: bytes) -> bytes:
        lines = gzip.decompress(content).decode().splitlines(keepends=True)
        return gzip.compress("".join(change(lines)).encode())

    return damage


def replaced(old: str, new: str) -> Damage:
    def damage(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return damage


def hypotheses(text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [line.replace('"egl"', f'"hypotheses": {text}, "egl"') for line in lines]


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


RESULT, TEST, METRICS, SCORES, SPEC = (
    *("result.json", "test.csv.gz", "metrics.jsonl", "scores.jsonl.gz", "spec.json"),
)


@pytest.mark.parametrize(
    ("kind", "name", "damage", "complaint"),
    [
        ("train", RESULT, lambda content: b"", "Expecting value"),
        ("train", RESULT, lambda content: content[:30], "damaged"),
        ("train", RESULT, lambda content: b"[1]", "no JSON object"),
        ("train", RESULT, lambda content: b"{}", "lacks 'best_epoch'"),
        ("train", RESULT, lambda content: b"\xff", "utf-8"),
        ("train", RESULT, replaced('"valid_loss": 0.001', '"valid_loss": NaN'), "NaN"),
        ("train", RESULT, replaced('"valid_loss": 0.001', '"valid_loss": 0.0001'), "valid_loss"),
        ("train", RESULT, replaced('"valid_loss": 0.001', '"valid_loss": "0.001"'), "valid_loss"),
        ("train", RESULT, replaced('"epochs": 1', '"epochs": 3'), "metrics.jsonl"),
        ("train", RESULT, replaced('"cer": 0.5', '"cer": 0.4'), "cer disagrees with test.csv.gz"),
        ("train", RESULT, replaced('"cer": 0.5', '"cer": null'), "damaged"),
        ("train", RESULT, replaced('"test"', '"text"'), "lacks 'test'"),
        ("train", RESULT, replaced('"wer": 1.0', '"were": 1.0'), "lacks 'wer'"),
        ("train", RESULT, replaced('"ctc_loss": 3.0', '"ctc_loss": 2.0'), "ctc_loss disagrees"),
        ("train", TEST, lambda content: content[:-9], "damaged"),
        ("train", TEST, flipped, "damaged"),
        ("train", TEST, lambda content: b"id,ctc_loss\n", "damaged"),
        ("train", TEST, of_lines(lambda lines: lines[:-1]), "utterances"),
        ("train", TEST, of_lines(lambda lines: lines[:1]), "damaged"),
        ("train", TEST, of_lines(lambda lines: []), "damaged"),
        ("train", TEST, of_lines(lambda lines: [x.replace("3.0", "nan") for x in lines]), "nan"),
        ("train", TEST, of_lines(lambda lines: [x.replace("3.0", "inf") for x in lines]), "inf"),
        ("train", TEST, of_lines(lambda lines: [x.replace(",2,", ",3,") for x in lines]), "ctc"),
        ("train", METRICS, lambda content: b"", "damaged"),
        ("train", METRICS, replaced("0.001", "0.002"), "valid_loss"),
        ("train", SPEC, replaced('"format_version": 1', '"format_version": 2'), "another unit"),
        ("train", SPEC, lambda content: content[:-9], "damaged"),
        ("score", SCORES, lambda content: content[:-9], "damaged"),
        ("score", SCORES, flipped, "damaged"),
        ("score", SCORES, of_lines(lambda lines: lines[:-1]), "not those of the pool"),
        ("score", SCORES, of_lines(lambda lines: lines[::-1]), "not those of the pool"),
        ("score", SCORES, of_lines(lambda lines: [*lines, lines[0]]), "not those of the pool"),
        ("score", SCORES, of_lines(lambda lines: [lines[0][:40], *lines[1:]]), "damaged"),
        ("score", SCORES, of_lines(lambda lines: [x.replace("null", "NaN") for x in lines]), "NaN"),
        ("score", SCORES, of_lines(lambda lines: [x.replace("null", '"1"') for x in lines]), "'1'"),
        ("score", SCORES, of_lines(lambda lines: ["[]\n" for _ in lines]), "damaged"),
        ("score", SCORES, of_lines(hypotheses('7')), "damaged"),
        ("score", SCORES, of_lines(hypotheses('[{"text": "a", "log_prob": -1.0}]')), "sq_grad"),
        ("score", SCORES, of_lines(hypotheses('[{"text": 7, "log_prob": 0.5}]')), "text 7"),
        ("score", SCORES, of_lines(hypotheses('[{"text": "a", "log_prob": true}]')), "log_prob T"),
        ("score", RESULT, lambda content: content[:5], "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(
    done: tuple[Plan, Path], tmp_path: Path, kind: str, name: str, damage: Damage, complaint: str
) -> None:
    plan, root = done
    shutil.copytree(root, tmp_path / "units")
    [path, *_] = (tmp_path / "units").glob(f"{kind}-*/{name}")
    path.write_bytes(damage(path.read_bytes()))
    store = UnitStore(tmp_path / "units")
    with pytest.raises(OutputError) as caught:
        write_tables(plan, plan.expand(store), store, tmp_path / "run")
    line = str(caught.value)
    assert line.startswith(f"unit {path.parent}/")
    assert line.endswith(f"; remove the folder {path.parent} to have its work done again")
    assert "is damaged" in line
    assert complaint in line
    assert "\n" not in line
    shutil.rmtree(path.parent)
    UnitStore(tmp_path / "units").is_done(path.parent.name)


def test_what_is_not_damaged_is_read(done: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, root = done
    store = UnitStore(root)
    write_tables(plan, plan.expand(store), store, tmp_path / "run")
    tables = {str(path.relative_to(tmp_path / "run")) for path in tmp_path.rglob("*.*")}
    assert tables == {
        *("results.csv", "results.parquet", "test_utterances.parquet", "picks.parquet"),
        "scores/seed-0.parquet",
    }


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"wall_seconds": NaN}'])
def test_when_a_unit_was_done_is_no_result(
    done: tuple[Plan, Path], tmp_path: Path, content: str
) -> None:
    plan, root = done
    shutil.copytree(root, tmp_path / "units")
    store = UnitStore(tmp_path / "units")
    for path in store.root.glob("*/timing.json"):
        path.write_text(content)
    assert [store.seconds(name) for name in plan.expand(store).units] == [None] * 5


def test_files_of_one_unit_in_the_folder_of_another_are_named(
    done: tuple[Plan, Path], tmp_path: Path
) -> None:
    root = done[1]
    shutil.copytree(root, tmp_path / "units")
    one, other, *_ = (tmp_path / "units").glob("train-*")
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(OutputError, match=f"{one}.*is damaged .it belongs to another unit"):
        UnitStore(tmp_path / "units").is_done(one.name)


def test_a_model_of_another_unit_scores_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ("max_epochs = 2", "max_epochs = 1"))
    store = UnitStore(tmp_path / "units")
    [base] = plan.expand(store).units.values()
    execute(base, store, lambda words: None)
    path = store.model_path(base.name)
    other = plan_of(tmp_path, ("seeds = [0]", "seeds = [1]"), ("max_epochs = 2", "max_epochs = 1"))
    [other_base] = other.expand(store).units.values()
    execute(other_base, store, lambda words: None)
    shutil.copyfile(store.model_path(other_base.name), path)
    [score] = [u for u in plan.expand(store).units.values() if isinstance(u, ScoreUnit)]
    with pytest.raises(CheckpointError, match="is not the one that this unit trained; remove it"):
        execute(score, store, lambda words: None)


def test_a_model_that_is_made_again_leaves_results_as_they_are(tmp_path: Path) -> None:
    # On another machine, tables would differ by rounding from the result beside them.
    plan = plan_of(tmp_path, ("max_epochs = 2", "max_epochs = 1"))
    store = UnitStore(tmp_path / "units")
    [base] = plan.expand(store).units.values()
    execute(base, store, lambda words: None)
    folder = store.folder(base.name)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    store.discard_model(base.name)
    execute(base, store, lambda words: None)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert after.pop("model.pt") > before.pop("model.pt")
    assert after == before
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1
