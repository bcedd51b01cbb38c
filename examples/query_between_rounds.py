"""Rounds of active learning: train, ask what to transcribe, have it transcribed, train on.

    python examples/query_between_rounds.py --rounds 3 --budget 30s

The model is that of own_model.py and starts from nothing, the transcripts are the pool's own. In
your loop, the model has been trained and the transcripts come from people.
"""

import argparse
from pathlib import Path

import torch
from own_model import recognizer
from torch.nn import functional as F

import egl_fast
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest

HERE = Path(__file__).parent


def train(own: egl_fast.Recognizer, utterances: list[Utterance], epochs: int) -> float:
    """Go on training, one recording at a time; returns the last epoch's mean loss."""
    optimizer = torch.optim.AdamW(own.module.parameters(), lr=1e-3)
    own.module.train()
    losses: list[float] = []
    for _ in range(epochs):
        losses = []
        for utterance in utterances:
            labels = torch.tensor([own.classes.labels(utterance.text or "")])
            logits, lengths = own.module(*own.load(utterance).inputs.positional)
            loss = F.ctc_loss(
                logits.log_softmax(2).transpose(0, 1),
                labels,
                lengths,
                torch.tensor([labels.shape[1]]),
                blank=own.classes.blank,
                zero_infinity=True,
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(own.module.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


def query(
    own: egl_fast.Recognizer, pool: list[Utterance], *, budget: str, k: int
) -> list[Utterance]:
    """The recordings of the pool that this model would learn most from."""
    scorer = egl_fast.Scorer(own)
    rate = own.required_front_end().sample_rate_hz
    records = scorer.score_waveforms(
        [load_audio(one, sample_rate_hz=rate) for one in pool],
        sample_rate_hz=rate,
        ids=[one.id for one in pool],
        k=k,
    )
    return [pool[index] for index in egl_fast.select(records, budget=budget)]


def main() -> None:
    """Train, query, and label in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, default=HERE / "train.jsonl", help="labeled manifest")
    parser.add_argument("--pool", type=Path, default=HERE / "pool.jsonl", help="to choose from")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", default="30s", help="audio to label in a round (20s, 10%%, 5)")
    parser.add_argument("--epochs", type=int, default=2, help="in each round")
    parser.add_argument("--k", type=int, default=20, help="labelings per recording")
    args = parser.parse_args()

    own = egl_fast.Recognizer.of(**recognizer())
    labeled, pool = read_manifest(args.train), read_manifest(args.pool)
    for number in range(1, args.rounds + 1):
        loss = train(own, labeled, args.epochs)
        chosen = query(own, pool, budget=args.budget, k=args.k)
        print(
            f"round {number}: loss {loss:.2f} on {len(labeled)} recordings; to transcribe: "
            f"{', '.join(one.id for one in chosen)}"
        )
        labeled += chosen  # whose `text` is the transcript
        ids = {one.id for one in chosen}
        pool = [one for one in pool if one.id not in ids]
    print(f"loss {train(own, labeled, args.epochs):.2f} on {len(labeled)} recordings")


if __name__ == "__main__":
    main()
