"""Whether copies of recordings are found, and other recordings taken for copies.

    python experiments/typicality/copies.py --cache runs/typicality

Each recording of the sample's pool gets a copy: as Ogg Vorbis, as MP3, at half the volume, or the
same file. Then all recordings of the collection, of which none is there twice, and its digits and
sentences of one talker alone. Needs the embeddings that measure.py leaves in its cache.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.loading import load_spectrogram, pad_features
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.embeddings import duplicates
from egl_fast.embeddings.pooled import pooled

KINDS = ("ogg", "mp3", "half as loud", "same file")
NEARNESS = (0.1, 0.15, 0.2, 0.25, 0.3)


@torch.inference_mode()
def embeddings(model: Path, paths: list[Path]) -> np.ndarray:
    """[n, d], each recording alone."""
    checkpoint = load_checkpoint(model)
    network = checkpoint.model.eval()
    seen: dict[str, torch.Tensor] = {}
    network.output.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    rows = []
    for path in paths:
        utterance = Utterance(str(path), path, 0.0, None, None, {}, 1)
        features, lengths = pad_features(
            [load_spectrogram(utterance, checkpoint.features).features], device=torch.device("cpu")
        )
        network(features, lengths)
        rows.append(pooled(seen["x"], torch.tensor([seen["x"].shape[1]])).numpy()[0])
    return np.stack(rows)


def copied(path: Path, kind: str, folder: Path) -> Path:
    """A copy of a recording."""
    if kind == "same file":
        return path
    samples, rate = soundfile.read(path)
    suffix = {"ogg": ".ogg", "mp3": ".mp3"}.get(kind, ".wav")
    copy = folder / f"{path.stem}{suffix}"
    soundfile.write(copy, samples * (0.5 if kind == "half as loud" else 1.0), rate)
    return copy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("examples/base.pt"))
    parser.add_argument("--pool", type=Path, default=Path("examples/pool.jsonl"))
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    originals = [utterance.audio_path for utterance in read_manifest(args.pool)]
    kinds = [KINDS[i % len(KINDS)] for i in range(len(originals))]
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            copied(path, kind, Path(folder)) for path, kind in zip(originals, kinds, strict=True)
        ]
        sample = embeddings(args.model, [*originals, *paths])
    with np.load(args.cache / "small.npz") as file:
        collection, corpora = file["embeddings"], file["kinds"]
    for nearness in NEARNESS:
        duplicates.NEARNESS = nearness
        found = duplicates.copies(sample)
        half = len(originals)
        right = {
            kind: np.mean([found[half + i] == found[i] for i in range(half) if kinds[i] == kind])
            for kind in KINDS
        }
        wrong = {"sample": half - len(set(found[:half]))} | {
            name: int((duplicates.copies(part) != np.arange(len(part))).sum())
            for name, part in [("all", collection)]
            + [(corpus, collection[corpora == corpus]) for corpus in ("digits", "GRID")]
        }
        print(nearness, "found:", {k: f"{v:.0%}" for k, v in right.items()}, "mistaken:", wrong)


if __name__ == "__main__":
    main()
