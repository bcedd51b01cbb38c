"""A pretrained QuartzNet in two halves: lower blocks that stay frozen, and a top that is trained.

The lower half runs once a recording; what it gives is kept in half precision, in a folder outside
the repository, and everything after that (scoring, pooling, training, testing) starts from there.

    python experiments/adaptation/halves.py --model-dir ../shared/models/quartznet15x5_en \
        --data ../shared/data --cache runs/adaptation
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest

FROZEN_BLOCKS = 12
SAMPLE_RATE_HZ = 16_000
BLANK = 28

#: Corpus -> its manifest, as the experiments call it.
MANIFESTS = {
    "speechocean762": "speechocean762/manifest.jsonl",
    "hard": "speechocean762/manifest_hard.jsonl",
    "outliers": "outliers/manifest.jsonl",
    "librispeech": "librispeech/manifest.jsonl",
    "an4": "an4/manifest.jsonl",
    "grid_s1": "grid_s1/manifest.jsonl",
    "fsdd": "fsdd/manifest.jsonl",
}


class Top(nn.Module):
    """What is trained: the last three blocks and the three layers after them.

    Takes the lower half's outputs [N, T, 512] and lengths [N]; returns logits [N, T, 29] and
    lengths.
    """

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(whole.blocks[FROZEN_BLOCKS:])
        self.c2, self.c3 = whole.c2, whole.c3
        # A convolution of width 1 in the original; as a linear layer, its share of a gradient is
        # known to the scorer before any backward pass.
        self.head = nn.Linear(whole.head.in_channels, whole.head.out_channels)
        self.head.load_state_dict(
            {"weight": whole.head.weight.detach()[:, :, 0], "bias": whole.head.bias.detach()}
        )

    def hidden(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[N, T, 1024]: what the output layer sees; padding is zero."""
        x = x.transpose(1, 2)
        frames = torch.arange(x.shape[2], device=x.device)
        mask = (frames < lengths[:, None])[:, None].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        x = F.relu(self.c2(x)) * mask
        hidden: Tensor = (F.relu(self.c3(x)) * mask).transpose(1, 2)
        return hidden

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.head(self.hidden(x, lengths)), lengths


def load_whole(folder: Path) -> tuple[ModuleType, Any]:
    """The module ``quartznet.py`` of the folder, and the network in float32."""
    spec = importlib.util.spec_from_file_location("quartznet", folder / "quartznet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.load(folder / "quartznet15x5_en.fp16.pt")


@dataclass(frozen=True)
class Recording:
    """One line of a manifest.

    Attributes:
        id: corpus and path.
        corpus: a key of ``MANIFESTS``.
        text: "" where there is nothing to transcribe.
        seconds: of audio.
        record: the manifest's line.
    """

    id: str
    corpus: str
    text: str
    seconds: float
    record: dict[str, Any]


class Cache:
    """The lower half's outputs of all recordings.

    Attributes:
        recordings: all of them.
        frames: [total, 512] float16.
        bounds: [n + 1], where each recording's frames begin and end.
    """

    def __init__(self, folder: Path) -> None:
        lines = (folder / "recordings.jsonl").read_text().splitlines()
        self.recordings = [Recording(**json.loads(line)) for line in lines]
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        self.bounds = np.load(folder / "bounds.npy")

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Padded outputs [N, T, 512] float32, and lengths [N]."""
        lengths = torch.tensor([self.bounds[i + 1] - self.bounds[i] for i in indices])
        out = torch.zeros(len(indices), int(lengths.max()), self.frames.shape[1])
        for row, i in enumerate(indices):
            found = self.frames[self.bounds[i] : self.bounds[i + 1]]
            out[row, : len(found)] = torch.from_numpy(found.astype(np.float32))
        return out, lengths


@torch.inference_mode()
def write_cache(model_dir: Path, data: Path, folder: Path) -> None:
    """Run the lower half over everything."""
    _, whole = load_whole(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    utterances = [
        (corpus, utterance)
        for corpus, name in MANIFESTS.items()
        for utterance in read_manifest(data / name)
    ]
    pieces, lines = [], []
    for corpus, utterance in track(utterances, "lower half"):
        wave = torch.as_tensor(load_audio(utterance, sample_rate_hz=SAMPLE_RATE_HZ))[None]
        features, _ = whole.front(wave, torch.tensor([wave.shape[1]]))
        x = whole.c1(features)
        mask = torch.ones(1, 1, x.shape[2])
        x = F.relu(x)
        for block in whole.blocks[:FROZEN_BLOCKS]:
            x = block(x, mask)
        pieces.append(x[0].T.half().numpy())
        one = Recording(
            f"{corpus}/{utterance.id}",
            corpus,
            utterance.text or "",
            wave.shape[1] / SAMPLE_RATE_HZ,
            utterance.record,
        )
        lines.append(json.dumps(vars(one)))
    np.save(folder / "frames.npy", np.concatenate(pieces))
    np.save(folder / "bounds.npy", np.cumsum([0, *map(len, pieces)]))
    (folder / "recordings.jsonl").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write the cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    if (args.cache / "recordings.jsonl").exists():
        sys.exit(f"{args.cache}: is there already")
    write_cache(args.model_dir, args.data, args.cache)


if __name__ == "__main__":
    main()
