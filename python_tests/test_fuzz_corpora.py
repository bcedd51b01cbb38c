"""What fuzzing the reader of model files has reached is read again, without the fuzzer.

The corpora of native targets are replayed by ``make test-cpp``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"


# Python's own, of a text in a pickle; shown to nobody by default.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_the_reader_of_model_files_survives_its_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(FUZZ), *sys.path])
    import checkpoints

    reader = checkpoints.Reader(tmp_path)
    outcomes = Counter(
        reader.read(path.read_bytes()) for path in (FUZZ / "corpus/checkpoints").iterdir()
    )
    assert outcomes["same"] >= 2
    assert outcomes["other"] >= 2
    assert outcomes["refused"] > 50
    # The watch over the reader sees what it is for.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader._fuzzer, "outcome_of_file", lambda: exec("import os"))
        with pytest.raises(AssertionError, match=r"did more than that.*exec"):
            reader.read(b"")
