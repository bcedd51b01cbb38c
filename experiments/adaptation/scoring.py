"""Scores and embeddings of all recordings by the pretrained model, before anything is trained.

The parameters that count are those that are trained: the top half's.

    python experiments/adaptation/scoring.py --model-dir ../shared/models/quartznet15x5_en \
        --data ../shared/data --cache runs/adaptation

Resumable: what is in CACHE/scores.jsonl is not scored again.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
from depthwise import use_fourier
from halves import BLANK, MANIFESTS, Cache, Recording, Top, load_whole
from halves import SAMPLE_RATE_HZ as RATE
from rich.progress import track

import egl_fast
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.embeddings.spectrum import spectrum
from egl_fast.records import to_json

OPTIONS = {"k": 100, "method": "probe", "probes": 4, "full": True, "full_samples": 64}


def seen(top: Top, cache: Cache) -> np.ndarray:
    """[n, 2048]: mean and standard deviation over frames of what the output layer sees."""
    found = []
    top = copy.deepcopy(top)
    use_fourier(top)
    with torch.inference_mode():
        for index in track(range(len(cache.recordings)), "embeddings"):
            hidden = top.hidden(*cache.batch([index]))[0]
            found.append(torch.cat([hidden.mean(0), hidden.std(0, correction=0)]).numpy())
    return np.stack(found)


def spectra(cache: Cache, data: Path) -> np.ndarray:
    """[n, 80]: of the audio."""
    utterances = {
        f"{corpus}/{utterance.id}": utterance
        for corpus, name in MANIFESTS.items()
        for utterance in read_manifest(data / name)
    }
    return np.stack(
        [
            spectrum(load_audio(utterances[one.id], sample_rate_hz=RATE), RATE)
            for one in track(cache.recordings, "spectra")
        ]
    )


def is_candidate(one: Recording) -> bool:
    """Whether a draw may put it into a pool."""
    return one.corpus in ("hard", "outliers") or one.record["split"] == "train"


def main() -> None:
    """Embeddings, then scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cache = Cache(args.cache)
    module, whole = load_whole(args.model_dir)
    top = Top(whole).eval()
    if not (args.cache / "embeddings.npy").exists():
        whole_rows = np.concatenate([seen(top, cache), spectra(cache, args.data)], axis=1)
        np.save(args.cache / "embeddings.npy", whole_rows)
    scorer = egl_fast.Scorer(top, vocabulary=[*module.VOCAB, "<blank>"], blank=BLANK)
    path = args.cache / "scores.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    done = {json.loads(line)["id"] for line in lines}
    left = [
        index
        for index, one in enumerate(cache.recordings)
        if is_candidate(one) and one.id not in done
    ]
    with open(path, "a") as file:
        for index in track(left, "scores"):
            one = cache.recordings[index]
            [record] = scorer.score_batch(
                *cache.batch([index]), ids=[one.id], durations=[one.seconds], **OPTIONS
            )
            file.write(json.dumps(to_json(record)) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
