"""Score a CTC model of your own, which egl_fast knows nothing about.

    python examples/score_your_model.py

The model may be any nn.Module whose call returns (logits [N, T, C], lengths [N]). This one stands
for yours: a convolution, a packed bidirectional LSTM and a linear layer over made-up features. With
random weights its scores mean nothing; they show what comes out.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import egl_fast

VOCABULARY = ["<blank>", "a", "b", "c", " "]


class YourModel(nn.Module):
    """Features [N, T, 40] and lengths [N] to logits and lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(40, 32, 5, padding=2)
        self.lstm = nn.LSTM(32, 48, batch_first=True, bidirectional=True)
        self.output = nn.Linear(96, len(VOCABULARY))

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [N, T, C], unnormalised, and the lengths."""
        x = self.conv(features.transpose(1, 2)).relu().transpose(1, 2)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.output(x), lengths


def main() -> None:
    """Score three made-up utterances and rank them."""
    torch.manual_seed(0)
    features, lengths = torch.randn(3, 50, 40), torch.tensor([50, 31, 44])
    scorer = egl_fast.Scorer(YourModel(), VOCABULARY, blank=0)
    records = scorer.score_batch(
        features, lengths, ids=["first", "second", "third"], k=20, per_hypothesis=True
    )
    for index in egl_fast.select(records, budget=3, strategy="egl_normalized"):
        record = records[index]
        best = record.hypotheses[0]
        print(
            f"{record.id:7} egl {record.egl:.3g}, normalized {record.egl_normalized:.3g}, "
            f"entropy {record.entropy:.3f}; best {best.text!r}: log p {best.log_prob:.1f}, "
            f"squared gradient norm {best.sq_grad_norm:.1f}"
        )


if __name__ == "__main__":
    main()
