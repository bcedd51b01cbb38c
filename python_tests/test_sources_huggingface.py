"""Hugging Face's data sets as sources, on disk and as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recordings import write_manifest
from source_speech import NAMES, RATE_HZ, Speech, check, speech

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


@pytest.fixture
def dataset(speech: Speech) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    columns = {
        "audio": [str(speech.path(name)) for name in NAMES],
        "id": NAMES,
        "sentence": list(speech.texts.values()),
        "nr": list(range(len(NAMES))),
    }
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column("audio", datasets.Audio(sampling_rate=RATE_HZ, decode=False))


def embedded(dataset: Any) -> Any:
    from datasets.table import embed_table_storage

    return dataset.with_format("arrow").map(embed_table_storage, batched=True, batch_size=7)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_dataset_that_was_saved(
    dataset: Any, speech: Speech, tmp_path: Path, num_shards: int
) -> None:
    dataset.save_to_disk(tmp_path / "saved", num_shards=num_shards)
    utterances = read_manifest(tmp_path / "saved")
    check(utterances, texts=speech.texts)
    assert [u.record["nr"] for u in utterances] == list(range(len(NAMES)))
    # Rows without their own ids are counted, whatever the number of files.
    dataset.remove_columns("id").save_to_disk(tmp_path / "other", num_shards=num_shards)
    assert [u.id for u in read_manifest(tmp_path / "other")] == [f"other/{n}" for n in range(64)]


def test_splits_of_a_dataset(dataset: Any, tmp_path: Path) -> None:
    from datasets import DatasetDict

    splits = dataset.remove_columns("id").train_test_split(test_size=16, seed=0)
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    utterances = read_manifest(tmp_path / "saved")
    assert [u.id for u in utterances][46:50] == ["train/46", "train/47", "test/0", "test/1"]
    assert {u.record["split"] for u in utterances} == {"train", "test"}


@pytest.mark.parametrize("is_inside", [False, True])
def test_parquet(dataset: Any, speech: Speech, tmp_path: Path, is_inside: bool) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-00000.parquet"
    (embedded(dataset) if is_inside else dataset).to_parquet(path, batch_size=10)
    for source in (path, tmp_path):
        utterances = read_manifest(source)
        check(utterances, texts=speech.texts)
        assert [u.record["nr"] for u in utterances] == list(range(len(NAMES)))


def test_a_parquet_file_without_audio_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match="has no column of audio among"):
        read_manifest(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        read_manifest(tmp_path / "y.parquet")


def test_damaged_archives_get_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "x.arrow").write_bytes(b"not arrow")
    with pytest.raises(ManifestError, match=r"x\.arrow: cannot be read as an Arrow file"):
        read_manifest(tmp_path)
    (tmp_path / "dataset_dict.json").write_text("{")
    with pytest.raises(ManifestError, match="is not a complete dataset"):
        read_manifest(tmp_path)
    line = write_manifest(tmp_path / "x.json", [{"audio_filepath": "a.wav", "shard_id": 0}])
    (tmp_path / "audio_0.tar").write_bytes(b"not tar")
    with pytest.raises(ManifestError, match=r"audio_0\.tar: cannot be read as a tar archive"):
        read_manifest(line)
