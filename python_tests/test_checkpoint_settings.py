"""Impossible sizes, features, and vocabularies are refused before a model is built."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_archives as made
from torch_archives import refusal

from egl_fast import checkpoint as checkpoint_module
from egl_fast import kinds
from egl_fast.errors import ModelError
from egl_fast.features import MAX_OVERLAP, MAX_WINDOW_SAMPLES, FeatureConfig
from egl_fast.model import MAX_WEIGHTS, MAX_WIDTH, DeepSpeech2, ModelConfig, preset
from egl_fast.vocabulary import ENGLISH_CHARACTERS


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a model is built for a file that should have been refused by then."""

    def build(config: ModelConfig) -> DeepSpeech2:
        raise AssertionError("a model is built")

    monkeypatch.setattr(checkpoint_module, "DeepSpeech2", build)


ABSURD_MODEL: list[tuple[str, Any, str]] = [
    ("num_layers", 10**6, "expected at most 100, got 1000000"),
    ("num_layers", 10**9, "expected at most 100"),
    ("num_layers", 0, "expected at least 1, got 0"),
    ("num_layers", "2", "expected a whole number, got '2'"),
    ("num_layers", 2.0, "expected a whole number, got 2.0"),
    ("num_layers", True, "expected a whole number, got True"),
    ("num_layers", None, "expected a whole number, got None"),
    ("num_layers", [2] * 1000, "expected a whole number, got [2, 2, 2, 2, 2, 2, ...]"),
    ("num_layers", 2**126, "expected at most 100, got 8507"),
    ("hidden_size", 10**9, "expected at most 16384"),
    ("hidden_size", -24, "expected at least 1, got -24"),
    ("hidden_size", torch.tensor(24), "expected a whole number, got tensor(24)"),
    ("conv_channels", 10**6, "expected at most 4096"),
    ("conv_channels", 4096, "outputs per frame"),
    ("num_bins", 10**9, "expected at most 32769"),
    ("num_classes", 10**6, "expected at most 65536"),
    ("num_classes", 1, "expected at least 2"),
    ("dropout", 1.0, "expected a number below 1, got 1.0"),
    ("dropout", float("nan"), "expected a finite number, got nan"),
    ("dropout", "0.1", "expected a number, got '0.1'"),
    ("cell", "q" * 10**6, "expected one of rnn_tanh"),
    ("cell", ["gru"], "expected one of rnn_tanh"),
    ("conv_shapes", [], "expected a list of 1 to 16 convolutions, got []"),
    ("conv_shapes", [[[41, 11], [2, 2]]] * 10**3, "expected a list of 1 to 16 convolutions"),
    ("conv_shapes", 7, "expected a list of 1 to 16 convolutions, got 7"),
    ("conv_shapes", [[[41, 11], [2, 0]]], "expected at least 1, got 0"),
    ("conv_shapes", [[[41, 11], [0, 2]]], "expected at least 1, got 0"),
    ("conv_shapes", [[[41, 11], [2, 10**9]]], "expected at most 100"),
    ("conv_shapes", [[[40, 11], [2, 2]]], "kernels must be odd, got [40, 11]"),
    ("conv_shapes", [[[10**9 + 1, 11], [2, 2]]], "expected at most 999"),
    ("conv_shapes", [[[41, 11] * 1000, [2, 2]]], "kernel and stride over frequency and time"),
    ("conv_shapes", [[[41, 11], "22"]], "kernel and stride over frequency and time"),
]

ABSURD_FEATURES: list[tuple[str, Any, str]] = [
    ("sample_rate_hz", 10**9, "expected at most 384000, got 1000000000"),
    ("sample_rate_hz", "16000", "expected a whole number, got '16000'"),
    ("sample_rate_hz", 1, "0.02 s is less than a sample at 1 Hz"),
    ("sample_rate_hz", 0, "expected at least 1, got 0"),
    ("sample_rate_hz", 16000.0, "expected a whole number, got 16000.0"),
    ("window_seconds", 0.0, "expected a number above 0"),
    ("window_seconds", 1e300, "expected at most 100000"),
    ("window_seconds", 5.0, "expected at most 65536 samples, got 80000"),
    ("window_seconds", float("inf"), "expected a finite number"),
    ("hop_seconds", 0.0, "expected a number above 0"),
    ("hop_seconds", 1e-9, "1e-09 s is less than a sample at 16000 Hz"),
    ("hop_seconds", -0.01, "expected a number above 0"),
    ("hop_seconds", 1 / 16000, "expected at least 1/100 of the window's 0.02 s"),
    ("power_floor", 0.0, "expected at least 1e-30"),
    ("power_floor", None, "expected a number, got None"),
    ("std_floor", 0.0, "expected at least 1e-06"),
    ("std_floor", float("nan"), "expected a finite number"),
    ("std_floor", True, "expected a number, got True"),
]

PARTS = [("model", *case) for case in ABSURD_MODEL] + [
    ("features", *case) for case in ABSURD_FEATURES
]


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("part", "name", "value", "cause"), PARTS)
def test_absurd_sizes_are_refused_before_a_model_is_built(
    tmp_path: Path, model_content: dict[str, Any], part: str, name: str, value: Any, cause: str
) -> None:
    model_content[part][name] = value
    message = refusal(made.changed(tmp_path, made.saved(model_content)))
    assert f"is damaged ({part}: " in message
    assert cause in message
    assert name in message or "less than a sample" in cause


@pytest.mark.parametrize(("name", "value", "cause"), ABSURD_MODEL)
def test_absurd_sizes_in_python_are_model_errors(name: str, value: Any, cause: str) -> None:
    sizes: dict[str, Any] = {"conv_channels": 4, "num_layers": 2, "hidden_size": 24, name: value}
    with pytest.raises(ModelError) as caught:
        ModelConfig(**sizes)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "value", "cause"), ABSURD_FEATURES)
def test_absurd_features_in_python_are_value_errors(name: str, value: Any, cause: str) -> None:
    with pytest.raises(ValueError, match=name if "less than" not in cause else "seconds") as caught:
        FeatureConfig(**{name: value})
    assert cause in str(caught.value)


PAGE = Path(__file__).parent.parent / "docs" / "model.md"


@pytest.mark.parametrize(("config", "count"), [(ModelConfig, 5), (FeatureConfig, 3)])
def test_the_page_states_the_bounds(config: type, count: int) -> None:
    page = PAGE.read_text(encoding="utf-8")
    checked = 0
    for described in fields(config):
        (row,) = re.findall(rf"^\| `{described.name}` \|.*\|$", page, re.M)
        if ends := re.fullmatch(r"([\d,.e-]+) to ([\d,.]+)", row.split(" | ")[3]):
            least, most = (float(end.replace(",", "")) for end in ends.groups())
            number = int if described.type == "int" else float
            kind = kinds.kind_of(described)
            assert kind(number(least)) == least
            assert kind(number(most)) == most
            for beyond in (least - 1, most + 1):
                with pytest.raises(ValueError, match="expected at"):
                    kind(number(beyond))
            checked += 1
    assert checked == count
    assert f"{MAX_WIDTH:,} outputs" in page
    assert f"10^{math.log10(MAX_WEIGHTS):.0f} weights" in page
    assert f"1 to {MAX_WINDOW_SAMPLES:,} samples" in page
    assert f"1/{MAX_OVERLAP} of the window" in page


def test_a_network_of_too_many_weights_is_refused_in_python() -> None:
    with pytest.raises(ModelError, match=r"the network would have .* weights; at most"):
        ModelConfig(num_layers=100, hidden_size=2**14)
    with pytest.raises(ModelError, match="dropout: expected a number below 1"):
        preset("tiny", dropout=1.0)
    assert 10 * preset("paper").num_weights < MAX_WEIGHTS
    assert MAX_WIDTH > 10 * 32 * 81


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_clipped_relu", "gru", "lstm"])
@pytest.mark.parametrize("sizes", [{}, {"num_layers": 1, "hidden_size": 7, "num_bins": 33}])
def test_weights_are_counted_without_building(cell: str, sizes: dict[str, int]) -> None:
    config = ModelConfig(cell=cell, **sizes)  # type: ignore[arg-type]
    with torch.device("meta"):
        model = DeepSpeech2(config)
    assert config.num_weights == sum(p.numel() for p in model.parameters())


def test_numpy_numbers_become_python_numbers() -> None:
    import numpy as np

    config = ModelConfig(num_layers=np.int64(2), dropout=np.float32(0.5))  # type: ignore[arg-type]
    assert type(config.num_layers) is int
    assert type(config.dropout) is float
    assert type(FeatureConfig(sample_rate_hz=np.int32(8000)).sample_rate_hz) is int  # type: ignore[arg-type]


ALL_BUT_ONE = ENGLISH_CHARACTERS[:-1]

VOCABULARIES: list[tuple[Any, str]] = [
    ("<blank>ab", "expected a list of names, got '<blank>ab'"),
    ({"<blank>": 0}, "expected a list of names, got {'<blank>': 0}"),
    ([*ALL_BUT_ONE, 7], "expected a string, got 7"),
    ([*ALL_BUT_ONE, None], "expected a string, got None"),
    ([*ALL_BUT_ONE, ["d"]], "expected a string, got ['d']"),
    ([*ALL_BUT_ONE, b"d"], "names code ('_codecs.encode')"),
    ([*ALL_BUT_ONE, ""], "expected a string, got ''"),
    ([*ALL_BUT_ONE, "a"], "'a' names both class 3 and 28"),
    ([*ALL_BUT_ONE, "\n"], "'\\n' cannot be part of a text"),
    ([*ALL_BUT_ONE, "\x1b[31m"], "'\\x1b[31m' cannot be part of a text"),
    ([*ALL_BUT_ONE, "\x00"], "'\\x00' cannot be part of a text"),
    ([*ALL_BUT_ONE, "\ud800"], "'\\ud800' cannot be part of a text"),
    ([*ALL_BUT_ONE, "\u2028"], "'\\u2028' cannot be part of a text"),
    ([*ALL_BUT_ONE, "x" * 10**6], "expected names of at most 100 characters"),
    (["a"] * 10**5, "'a' names both class 0 and 1"),
    ([f"{n}" for n in range(50_000)], "vocabulary (50000 classes)"),
    (["x" * 99] * 10 + [f"{n:99}" for n in range(50_000)], "its index has more than 4 MiB"),
    (["a"] * 310_000, "its index has more than 300,000 instructions"),
]


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("vocabulary", "cause"), VOCABULARIES, ids=range(len(VOCABULARIES)))
def test_an_impossible_vocabulary_is_refused(
    tmp_path: Path, model_content: dict[str, Any], vocabulary: Any, cause: str
) -> None:
    model_content["vocabulary"] = vocabulary
    assert cause in refusal(made.changed(tmp_path, made.saved(model_content)))
