"""A CTC model of your own with its front end, for the command line and for Python.

    egl-fast score --model examples/own_model.py:recognizer --pool examples/pool.jsonl --k 20
    python examples/own_model.py --k 20

With random weights its scores mean nothing; they show what comes out.
"""

import argparse
import string
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import egl_fast

VOCABULARY = ["<blank>", " ", "'", *string.ascii_lowercase]
SAMPLE_RATE_HZ = 16000
HOP = 160  # 10 ms


class OwnModel(nn.Module):
    """Log-spectrograms [N, T, 201] and lengths [N] to logits [N, T', C] and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(201, 48, 5, stride=2, padding=2)
        self.lstm = nn.LSTM(48, 48, batch_first=True, bidirectional=True)
        self.output = nn.Linear(96, len(VOCABULARY))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits need not be normalized."""
        x = self.conv(features.transpose(1, 2)).relu().transpose(1, 2)
        lengths = (lengths + 1) // 2
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.output(x), lengths


def front_end(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Samples [S] of one recording to the model's input, a batch of one."""
    window = torch.hann_window(400)
    spectrum = torch.stft(samples, 400, HOP, window=window, return_complex=True)
    features = spectrum.abs().square().add(1e-5).log().T
    return features[None], torch.tensor([features.shape[0]])


def recognizer() -> dict[str, Any]:
    """What `--model examples/own_model.py:recognizer` calls."""
    torch.manual_seed(0)
    return {
        "module": OwnModel(),  # .load_state_dict(torch.load("weights.pt")) goes here
        "vocabulary": VOCABULARY,
        "blank": "<blank>",
        "front_end": front_end,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "frame_seconds": 2 * HOP / SAMPLE_RATE_HZ,
    }


def main() -> None:
    """Score a pool and show what to transcribe first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    pool = Path(__file__).parent / "pool.jsonl"
    parser.add_argument("--pool", type=Path, default=pool, help="manifest to choose from")
    parser.add_argument("--k", type=int, default=100, help="labelings per recording")
    args = parser.parse_args()

    scorer = egl_fast.Scorer(egl_fast.Recognizer.of(**recognizer()))
    records = list(scorer.score_manifest(args.pool, k=args.k))
    for index in egl_fast.select(records, budget=min(5, len(records))):
        record = records[index]
        print(f"{record.id}  pctc {record.pctc:.3f}  entropy {record.entropy:.3f}")


if __name__ == "__main__":
    main()
