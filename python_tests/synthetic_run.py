"""A run folder as `egl-fast simulate` leaves it: given score records, made-up training outcomes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from egl_fast.evaluation.simulation.tables import scores_table

#: How fast each strategy's curve comes down; made up, but ordered as in the paper.
SPEED = {"random": 1.0, "entropy": 1.5, "pctc": 1.55, "egl": 1.9, "egl_normalized": 2.1}


def synthetic_scores(manifest: Path, *, seed: int = 0) -> list[dict[str, Any]]:
    """Score records of a manifest, as `egl-fast score --per-hypothesis` writes them."""
    rng = np.random.default_rng(seed)
    records = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        hardness = float(rng.gamma(2.0, 0.5))
        mass = float(np.exp(-3 * hardness))
        egl = float(200 * mass * rng.gamma(3.0))
        text = entry.get("text") or ""
        records.append(
            {
                **entry,
                "num_frames": round(50 * entry["duration"]),
                "pred_text": text.replace("e", "i"),
                "num_hypotheses": 2,
                "beam_mass": mass,
                "egl": egl,
                "egl_stderr": 0.0,
                "egl_normalized": egl / mass,
                "egl_unsquared": None,
                "egl_full": egl / mass * float(rng.gamma(9.0, 1 / 9.0)),
                "egl_full_stderr": 1.0,
                "entropy": 0.1 + 0.2 * hardness,
                "pctc": 0.05 + 0.1 * hardness * float(rng.gamma(5.0, 0.2)),
                "random": float(rng.random()),
                "hypotheses": [
                    {"text": text, "labels": [3], "log_prob": -1000.5, "sq_grad_norm": 300.0},
                    {"text": "", "labels": [], "log_prob": -1001.5, "sq_grad_norm": 1234.5},
                ],
            }
        )
    return records


def write_run(
    folder: Path,
    pool: Sequence[Mapping[str, Any]],
    *,
    strategies: Sequence[str] = ("random", "entropy", "pctc", "egl", "egl_normalized"),
    queries: Sequence[int] = (10, 20, 30, 40),
    seeds: Sequence[int] = (0, 1, 2),
    num_test: int = 120,
    sequential: bool = False,
    audio_folder: Path | None = None,
) -> Path:
    """Writes RUN_DIR of an evaluation on ``pool`` (score records); returns the folder.

    Args:
        folder: made if need be.
        pool: records as of a scores file; the seeds other than the first see them with noise.
        strategies: keys of the records, and of ``SPEED`` or as good as random.
        queries: percentages.
        seeds: of the runs.
        num_test: utterances of the test set.
        sequential: add sequential rounds for egl.
        audio_folder: what relative audio paths of the records count from.
    """
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text('[data]\npool = "pool.jsonl"\n', encoding="utf-8")
    rng = np.random.default_rng(0)
    num_chars = rng.integers(8, 60, num_test)
    num_words = np.maximum(1, num_chars // 5)
    hardness = rng.gamma(2.0, 0.5, num_test)
    seconds = np.array([record["duration"] for record in pool])
    base = {"base_clips": 350, "base_seconds": 1260.0}
    results, tests, picks = [], [], []

    def add(strategy: str, mode: str, seed: int, query: str, chosen: Any, speed: float) -> None:
        fraction = len(chosen) / len(pool)
        unit = "train-" + hashlib.sha256(f"{strategy}{mode}{seed}{query}".encode()).hexdigest()[:12]
        shape = 0.09 + 0.07 * (1 - fraction) ** (2.2 * speed)
        cer = shape * (1 + 0.012 * np.random.default_rng([seed, len(results)]).normal())
        own = np.random.default_rng([seed, len(results), 1])
        noise = own.gamma(8.0, 1 / 8.0, num_test)
        chars = own.poisson(cer * hardness * noise * num_chars)
        words = np.minimum(num_words * 2, own.poisson(2.4 * cer * hardness * noise * num_words))
        loss = 2.6 * cer * num_chars * hardness * noise
        tests.append(
            pl.DataFrame(
                {
                    "unit": [unit] * num_test,
                    "id": [f"test{number:03}" for number in range(num_test)],
                    "ctc_loss": loss,
                    "char_errors": chars,
                    "num_chars": num_chars,
                    "word_errors": words,
                    "num_words": num_words,
                }
            )
        )
        results.append(
            {
                "strategy": strategy,
                "mode": mode,
                "round": 1,
                "seed": seed,
                "query": query,
                "fraction": fraction,
                "num_labeled": len(chosen),
                "labeled_seconds": float(seconds[chosen].sum()),
                "pool_clips": len(pool),
                "pool_seconds": float(seconds.sum()),
                **base,
                "unit": unit,
                "valid_loss": float(loss.mean()),
                "ctc_loss": float(loss.mean()),
                "ctc_loss_per_char": float(loss.sum() / num_chars.sum()),
                "cer": chars.sum() / num_chars.sum(),
                "wer": words.sum() / num_words.sum(),
                "epochs": 20,
            }
        )

    for seed in seeds:
        records = [dict(record) for record in pool]
        noise = np.random.default_rng([seed, 99])
        for record in records:
            if audio_folder is not None:
                # As simulate writes them: relative to the scores file, not to where one works.
                record["audio_filepath"] = os.path.relpath(
                    (audio_folder / record["audio_filepath"]).resolve(),
                    os.path.realpath(folder / "scores"),
                )
            if seed != seeds[0]:
                for name in strategies:
                    record[name] = record[name] * float(np.exp(0.2 * noise.normal()))
            record["random"] = float(noise.random())
            record["longest"], record["shortest"] = record["duration"], -record["duration"]
            record["oracle_loss"] = record["pctc"] * record["num_frames"] * 1.4
        table = scores_table(records, {record["id"] for record in records})
        table.write_parquet(folder / "scores" / f"seed-{seed}.parquet")
        add("", "single", seed, "0%", np.arange(0), 1.0)
        add("", "single", seed, "100%", np.arange(len(pool)), 1.0)
        modes = [(name, "single") for name in strategies]
        modes += [("egl", "sequential")] if sequential else []
        for strategy, mode in modes:
            order = np.argsort([-record[strategy] for record in records], kind="stable")
            for percent in queries:
                count = int(np.floor(len(pool) * percent / 100 + 0.5))
                speed = SPEED.get(strategy, 1.0) * (1.08 if mode == "sequential" else 1.0)
                add(strategy, mode, seed, f"{percent}%", order[:count], speed)
                if percent != max(queries):
                    continue
                picks += [
                    {
                        "strategy": strategy,
                        "mode": mode,
                        "seed": seed,
                        "round": 1,
                        "rank": rank,
                        "id": records[index]["id"],
                    }
                    for rank, index in enumerate(order[:count], start=1)
                ]
    table = pl.DataFrame(results)
    table.write_parquet(folder / "results.parquet")
    table.write_csv(folder / "results.csv")
    pl.concat(tests).write_parquet(folder / "test_utterances.parquet")
    pl.DataFrame(picks).write_parquet(folder / "picks.parquet")
    return folder
