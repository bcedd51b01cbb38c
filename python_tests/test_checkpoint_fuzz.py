"""A few mutated model files; ``fuzz_checkpoints.py`` runs as many as you like."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

from fuzz_checkpoints import Fuzzer


def test_mutated_files_are_refused_in_one_line_or_work(tmp_path: Path) -> None:
    fuzzer = Fuzzer(tmp_path)
    outcomes = Counter[str]()
    for label, mutated in itertools.islice(fuzzer.mutations(), 160):
        try:
            outcomes[fuzzer.outcome(mutated)] += 1
        except Exception as error:
            raise AssertionError(f"mutation {label}") from error
    # The test shows something only if mutations have all three outcomes.
    assert outcomes["refused"] > 80
    assert outcomes["same"] > 5
    assert outcomes["other"] > 2
