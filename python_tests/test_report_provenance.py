"""What a page says about how its scores were made: what the metadata hold, and nothing else."""

import json
from types import SimpleNamespace

import pytest

from egl_fast.evaluation.reporting.provenance import in_a_line, of_run, of_scores

#: As `egl-fast score` writes it, shortened.
METADATA = {
    "model_sha256": "500c98bb92ff8c0669535d2e49fc1dc8",
    "pool_sha256": "77a7aeb630cc79892df784eafe3662dc",
    "k": 20,
    "beam_width": 200,
    "method": "probe",
    "tolerance": None,
    "probes": 4,
    "full_samples": 16,
    "params": None,
    "seed": 7,
    "precision": "float32",
    "device": "cpu",
    "versions": {"egl_fast": "0.1.0", "torch": "2.13.0+cpu"},
    "pool": "/home/jane/secret/pool.jsonl",
    "gpu": None,
    "num_scored": 3,
    "num_failed": 0,
}


class Pool(SimpleNamespace):
    def __len__(self):
        return 3


@pytest.fixture
def said(tmp_path):
    def writer(content):
        path = tmp_path / "scores.jsonl"
        (tmp_path / "scores.jsonl.meta.json").write_bytes(
            content if isinstance(content, bytes) else json.dumps(content).encode()
        )
        return of_scores(Pool(path=path))

    return writer


def test_a_scored_pool_says_how_it_was_scored(said):
    facts, warning = said(METADATA)
    assert warning is None
    assert facts == [
        ("Model", "SHA-256 500c98bb92ff"),
        ("Pool", "pool.jsonl (SHA-256 77a7aeb630cc)"),
        ("K", "20"),
        ("Beam width", "200"),
        ("Method", "probe (4 probes)"),
        ("Labelings drawn for EGL full", "16"),
        ("Seed", "7"),
        ("Precision", "float32"),
        ("Device", "cpu"),
        ("Scored by", "egl-fast 0.1.0, torch 2.13.0+cpu"),
    ]
    assert in_a_line(facts) == (
        "Scores: model SHA-256 500c98bb92ff, pool pool.jsonl (SHA-256 77a7aeb630cc), K = 20, "
        "method probe (4 probes)."
    )


def test_a_query_says_its_model_its_pool_and_its_command(said):
    query = {key: of for key, of in METADATA.items() if key != "pool"} | {
        "model": "/home/jane/base.pt", "manifest": "/home/jane/secret/pool.jsonl",
        "looked_at": 64, "num_picks": 3, "budget": "3", "strategy": "pctc", "k": 100,
        "confidence": 0.98, "effort": 10.0, "seed": 0, "drop_atypical": "auto",
        "typicality": {"trusted": "/home/jane/train.jsonl"},
    }  # fmt: skip
    facts = dict(said(query)[0])
    assert facts["Model"] == "base.pt (SHA-256 500c98bb92ff)"
    assert facts["Pool"] == "pool.jsonl (SHA-256 77a7aeb630cc)"
    assert facts["Command"] == (
        "egl-fast query --model base.pt --pool pool.jsonl --budget 3 --strategy pctc "
        "--drop-atypical auto --confidence 0.98 --typicality train.jsonl"
    )


def test_what_is_not_known_is_left_out(said, tmp_path):
    assert of_scores(Pool(path=tmp_path / "none.jsonl")) == ([], None)
    assert said({}) == ([], None)
    odd = {"k": "20", "method": ["probe"], "seed": True, "versions": [], "pool": 3, "probes": 1e300}
    assert said(odd) == ([], None)
    assert in_a_line([]) == ""


def test_metadata_of_another_file_are_ignored(said):
    facts, warning = said({**METADATA, "num_scored": 1000})
    assert facts == []
    assert "belongs to other scores (1,000 records; this file holds 3)" in warning


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_metadata_are_reported(said, content):
    facts, warning = said(content)
    assert facts == []
    assert "meta.json cannot be read" in warning


def test_a_run_says_how_it_scored():
    config = (
        'data_root = "/d"\n[scoring]\nk = 100\nmethod = "lowrank"\ntolerance = 0.1\nprobes = 4\n'
        "full = false\nfull_samples = 16\n"
        '[[data.pool]]\nmanifest = "/d/so/manifest.jsonl"\n'
        '[[data.pool]]\nmanifest = "/d/grid/manifest.jsonl"\n'
    )
    assert of_run(config) == [
        ("Pool", "so/manifest.jsonl, grid/manifest.jsonl"),
        ("K", "100"),
        ("Method", "lowrank (tolerance 0.1)"),
    ]
    for odd in (None, "no toml [", "scoring = 3\ndata = 4\nmodel = 'x'", "[data]\npool = [1]"):
        assert of_run(odd) == []
