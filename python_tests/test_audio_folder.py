"""Relative audio paths are resolved against the manifest, wherever files have moved since."""

import hashlib
import json

import pytest

from egl_fast.data.audio_folder import audio_folder
from egl_fast.errors import ManifestError


@pytest.fixture
def files(tmp_path):
    """A manifest in one folder and its scores in another."""
    (tmp_path / "data").mkdir()
    (tmp_path / "out").mkdir()
    pool, scores = tmp_path / "data" / "pool.jsonl", tmp_path / "out" / "scores.jsonl"
    pool.write_text("{}\n")
    scores.write_text("{}\n")
    digest = hashlib.sha256(pool.read_bytes()).hexdigest()
    meta = {"pool": str(pool), "pool_sha256": digest}
    (tmp_path / "out" / "scores.jsonl.meta.json").write_text(json.dumps(meta))
    return pool, scores


def test_paths_are_resolved_against_the_manifest(files):
    pool, scores = files
    assert audio_folder(str(scores), None) == pool.parent
    assert audio_folder("-", None) is None
    assert audio_folder("-", str(pool)) == pool.parent


def test_without_metadata_paths_are_resolved_against_the_scores(files):
    _, scores = files
    assert audio_folder(str(scores.with_name("seed-0.jsonl")), None) == scores.parent


def test_a_manifest_moved_along_with_its_scores_is_found(files):
    pool, scores = files
    beside = scores.with_name("pool.jsonl")
    pool.rename(beside)
    assert audio_folder(str(scores), None) == scores.parent
    # A manifest of the same name but with other lines is another pool.
    beside.write_text("{}\n{}\n")
    with pytest.raises(ManifestError, match="does not exist; give the manifest with --pool"):
        audio_folder(str(scores), None)


@pytest.mark.parametrize("pool", ["/dev/stdin", "/dev/fd/63", "/proc/self/environ", "a\0b", "-"])
def test_a_manifest_from_standard_input_has_to_be_named(files, pool):
    _, scores = files
    scores.with_name("scores.jsonl.meta.json").write_text(json.dumps({"pool": pool}))
    with pytest.raises(ManifestError, match="give the manifest with --pool"):
        audio_folder(str(scores), None)


@pytest.mark.parametrize("content", ["[]", "{", '{"pool": 3}', "[" * 100_000])
def test_damaged_metadata_are_ignored(files, content):
    _, scores = files
    scores.with_name("scores.jsonl.meta.json").write_text(content)
    assert audio_folder(str(scores), None) == scores.parent


@pytest.mark.parametrize("pool", ["folder", ["a.jsonl", "b=c"], ["-"]])
def test_sources_other_than_a_manifest_need_no_folder(files, pool):
    """Their audio paths are absolute."""
    _, scores = files
    (scores.parent / "folder").mkdir()
    scores.with_name("scores.jsonl.meta.json").write_text(json.dumps({"pool": pool}))
    audio_folder(str(scores), None)
