"""Pools with known junk, as embeddings by two models: what typicality is measured on.

small      examples/base.pt: test splits of speechocean762 and half of its train split, GRID,
           digits (which the model has never heard), AN4, LibriSpeech, outliers
pretrained the QuartzNet of ../adaptation, on the draws of its pools
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from egl_fast.checkpoint import load_checkpoint
from egl_fast.data.audio import load_audio
from egl_fast.data.loading import pad_features, spectrogram_of
from egl_fast.data.manifest import read_manifest
from egl_fast.embeddings.pooled import pooled
from egl_fast.embeddings.spectrum import spectrum

sys.path.append(str(Path(__file__).parent.parent / "adaptation"))

MANIFESTS = {
    "speechocean762": "speechocean762/manifest.jsonl",
    "GRID": "grid_s1/manifest.jsonl",
    "digits": "fsdd/manifest.jsonl",
    "AN4": "an4/manifest.jsonl",
    "LibriSpeech": "librispeech/manifest.jsonl",
    "outliers": "outliers/manifest.jsonl",
}


@dataclass(frozen=True)
class Pool:
    """Embeddings of trusted recordings and of a pool.

    Attributes:
        name: of the case.
        trusted: [m, d].
        pool: [n, d].
        kinds: [n] corpus of each, or "child" and "adult".
    """

    name: str
    trusted: np.ndarray
    pool: np.ndarray
    kinds: np.ndarray

    @property
    def is_speech(self) -> np.ndarray:
        """[n], True but for outliers."""
        return self.kinds != "outliers"


@torch.inference_mode()
def write_small_model_embeddings(model: Path, data: Path, out: Path) -> None:
    """Embeddings of everything by a model of ours; all audio once, a few minutes on one core."""
    checkpoint = load_checkpoint(model)
    network, rate = checkpoint.model.eval(), checkpoint.features.sample_rate_hz
    seen: dict[str, torch.Tensor] = {}
    network.output.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0]))
    found, kinds = [], []
    for corpus, name in MANIFESTS.items():
        utterances = sorted(
            read_manifest(data / name), key=lambda utterance: utterance.record["duration"]
        )
        for start in track(range(0, len(utterances), 16), corpus):
            batch = utterances[start : start + 16]
            waveforms = [load_audio(one, sample_rate_hz=rate) for one in batch]
            features, lengths = pad_features(
                [
                    spectrogram_of(waveform, checkpoint.features, name=one.id).features
                    for one, waveform in zip(batch, waveforms, strict=True)
                ],
                device=torch.device("cpu"),
            )
            _, frames = network(features.float(), lengths)
            spectra = [spectrum(waveform, rate) for waveform in waveforms]
            found.append(np.concatenate([pooled(seen["x"], frames).numpy(), spectra], axis=1))
            kinds += [corpus] * len(batch)
    np.savez_compressed(out, embeddings=np.concatenate(found), kinds=np.array(kinds))


def small_model_pools(path: Path, seeds: range) -> Iterator[Pool]:
    """The mixed pool, its speechocean762 part alone, and that part with newcomers."""
    with np.load(path) as file:
        embeddings, kinds = file["embeddings"], file["kinds"]
    outliers = np.flatnonzero(kinds == "outliers")
    for seed in seeds:
        random = np.random.default_rng(seed)

        def some(corpus: str, count: int, random: np.random.Generator = random) -> np.ndarray:
            return random.permutation(np.flatnonzero(kinds == corpus))[:count]

        speech, grid, digits = some("speechocean762", 800), some("GRID", 780), some("digits", 950)

        def case(name: str, trusted: list[np.ndarray], pool: list[np.ndarray]) -> Pool:
            own, other = np.concatenate(trusted), np.concatenate([*pool, outliers])
            return Pool(name, embeddings[own], embeddings[other], kinds[other])

        yield case(
            "mixed", [speech[:100], grid[:20], digits[:20]], [speech[100:], grid[20:], digits[20:]]
        )
        yield case("speechocean762", [speech[:100]], [speech[100:]])
        for newcomers in (["AN4"], ["LibriSpeech"], ["AN4", "LibriSpeech"], ["GRID"]):
            name = f"speechocean762, new: {' and '.join(newcomers)}"
            new = np.flatnonzero(np.isin(kinds, newcomers))
            yield case(name, [speech[:100]], [speech[100:], new])


def pretrained_pools(kind: str, cache_folder: Path, draws: range) -> Iterator[Pool]:
    """The draws of a kind of pool of ../adaptation; children and adults apart."""
    from halves import Cache
    from pools import Draw

    cache = Cache(cache_folder)
    embeddings = np.load(cache_folder / "embeddings.npy")

    def corpus_or_age(index: int) -> str:
        one = cache.recordings[index]
        if one.corpus != "speechocean762":
            return one.corpus
        return "child" if int(one.record["age"]) < 16 else "adult"

    for number in draws:
        draw = Draw.of(kind, number, cache, {}, embeddings)
        trusted, pool = list(draw.trusted), list(draw.pool)
        kinds = np.array([corpus_or_age(index) for index in pool])
        yield Pool(f"{kind}, pretrained", embeddings[trusted], embeddings[pool], kinds)
