"""Table 1 of the paper, to stand beside ours.

Huang, Child, Rao, Liu, Satheesh, Coates: "Active Learning for Speech Recognition: the Power of
Gradients", 2016. In percent; the CTC loss is a loss, in the paper's own unit.
"""

STRATEGIES = ("random", "entropy", "pctc", "egl")

#: Metric key -> query -> value by each of ``STRATEGIES``.
TABLE_1: dict[str, dict[str, tuple[float, float, float, float]]] = {
    "ctc_loss": {
        "10%": (35.97, 32.88, 33.10, 33.24),
        "20%": (31.31, 29.48, 29.44, 28.14),
        "30%": (28.80, 27.27, 27.02, 26.43),
        "40%": (27.23, 25.62, 25.59, 25.31),
    },
    "cer": {
        "10%": (12.70, 11.59, 11.73, 11.36),
        "20%": (10.84, 10.20, 10.17, 9.59),
        "30%": (9.81, 9.44, 9.22, 9.12),
        "40%": (9.28, 8.75, 8.68, 8.67),
    },
    "wer": {
        "10%": (31.47, 28.29, 28.62, 28.15),
        "20%": (26.57, 25.29, 25.29, 23.63),
        "30%": (24.08, 23.32, 22.88, 22.50),
        "40%": (22.75, 21.51, 21.37, 21.26),
    },
}
