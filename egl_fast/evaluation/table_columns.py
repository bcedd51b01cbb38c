"""The tables that `simulate` writes and `report` reads: their columns, and the kind of each.

"text"; "whole", a whole number; "count", a whole number of 0 or more; "amount", a number of 0 or
more; "maybe", a number that may be missing. docs/simulate.md says what the columns mean.
"""

from typing import Final

RESULTS: Final = {
    **dict.fromkeys(("strategy", "mode"), "text"),
    **dict.fromkeys(("round", "seed"), "whole"),
    "query": "text",
    "fraction": "amount",
    "num_labeled": "count",
    "labeled_seconds": "amount",
    "pool_clips": "count",
    "pool_seconds": "amount",
    "base_clips": "count",
    "base_seconds": "amount",
    "unit": "text",
    "valid_loss": "maybe",
    "ctc_loss": "amount",
    "ctc_loss_per_char": "maybe",
    **dict.fromkeys(("cer", "wer"), "amount"),
    "epochs": "count",
}
TEST_UTTERANCES: Final = {
    **dict.fromkeys(("unit", "id"), "text"),
    "ctc_loss": "amount",
    **dict.fromkeys(("char_errors", "num_chars", "word_errors", "num_words"), "count"),
}
PICKS: Final = {
    **dict.fromkeys(("strategy", "mode"), "text"),
    **dict.fromkeys(("seed", "round", "rank"), "whole"),
    "id": "text",
}
#: The mean over the values of a key, with equal weights.
MEAN: Final = "(mean)"
#: Errors by values of a key, and their mean.
RESULTS_BY: Final = {
    **dict.fromkeys(("strategy", "mode"), "text"),
    **dict.fromkeys(("round", "seed"), "whole"),
    **dict.fromkeys(("query", "unit", "value"), "text"),
    "test_clips": "count",
    "ctc_loss": "amount",
    "ctc_loss_per_char": "maybe",
    **dict.fromkeys(("cer", "wer"), "amount"),
}
#: Shares of values of a key, of recordings and of seconds, in picks and pool.
PICKS_BY: Final = {
    **dict.fromkeys(("strategy", "mode"), "text"),
    **dict.fromkeys(("round", "seed"), "whole"),
    **dict.fromkeys(("query", "value"), "text"),
    "num_picked": "count",
    **dict.fromkeys(
        ("picked_seconds", "share", "share_of_seconds", "pool_share", "pool_share_of_seconds"),
        "amount",
    ),
}

#: Rankings for comparison that only an evaluation has -> what they rank by.
CONTROLS: Final[dict[str, str]] = {
    "longest": "seconds of audio, most first",
    "shortest": "seconds of audio, least first",
    "oracle_loss": "true CTC loss of the hidden text under the current model",
    "oracle_cer": "true character error rate of the current model's transcript",
    "oracle_gradient": "squared gradient length for the hidden text, which egl expects",
}
#: Rankings that are computed only for a choice that uses them.
ON_REQUEST: Final = ("oracle_cer", "oracle_gradient")
