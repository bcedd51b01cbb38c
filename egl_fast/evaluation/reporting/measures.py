"""What an evaluation measures and compares: metrics, ways of choosing, budgets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What is measured on the test set; less is better.

    Attributes:
        key: column of the results.
        label: as people write it.
        long_label: in full.
        unit: behind a value, with its space.
        scale: values are shown multiplied by this.
        numerator: column of the test utterances that is summed.
        denominator: column that the sum is divided by; None for the number of utterances.
    """

    key: str
    label: str
    long_label: str
    unit: str
    scale: float
    numerator: str
    denominator: str | None


METRICS = (
    Metric("cer", "CER", "character error rate", "%", 100.0, "char_errors", "num_chars"),
    Metric("wer", "WER", "word error rate", "%", 100.0, "word_errors", "num_words"),
    Metric("ctc_loss", "CTC loss", "CTC loss, nats per utterance", "", 1.0, "ctc_loss", None),
)


@dataclass(frozen=True)
class Series:
    """A way of choosing what to label.

    Attributes:
        strategy: what ranked the pool.
        mode: "single" batch or "sequential" rounds, with the pool scored again after each.
    """

    strategy: str
    mode: str


@dataclass(frozen=True)
class Query:
    """A labeling budget.

    Attributes:
        name: as configured, "20%" or "0.2h".
        fraction: share of the pool's recordings, averaged over strategies and seeds.
    """

    name: str
    fraction: float
