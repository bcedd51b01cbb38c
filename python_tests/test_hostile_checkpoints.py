"""Model files that somebody made to do harm: each is one line, before anything large is built."""

from __future__ import annotations

import builtins
import gzip
import io
import math
import os
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_archives as made
from recordings import random_checkpoint

from egl_fast import checkpoint as checkpoint_module
from egl_fast import kinds
from egl_fast.checkpoint import checkpoint_content, load_checkpoint, read_torch
from egl_fast.errors import CheckpointError, ModelError
from egl_fast.features import MAX_OVERLAP, MAX_WINDOW_SAMPLES, FeatureConfig
from egl_fast.model import MAX_WEIGHTS, MAX_WIDTH, DeepSpeech2, ModelConfig, preset
from egl_fast.torch_file.archive import MAX_MEMBERS
from egl_fast.torch_file.pickled import MAX_PROGRAM_BYTES, MAX_STEPS
from egl_fast.vocabulary import ENGLISH_CHARACTERS


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"model {path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    assert message.endswith("give a file that `egl-fast train` wrote")
    return message


@pytest.fixture
def content() -> dict[str, Any]:
    return checkpoint_content(random_checkpoint())


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is built for a file that must be refused before fails the test."""

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
    tmp_path: Path, content: dict[str, Any], part: str, name: str, value: Any, cause: str
) -> None:
    content[part][name] = value
    message = refusal(made.changed(tmp_path, made.saved(content)))
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


def test_numbers_of_numpy_become_pythons() -> None:
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
def test_a_vocabulary_that_no_text_has_is_refused(
    tmp_path: Path, content: dict[str, Any], vocabulary: Any, cause: str
) -> None:
    content["vocabulary"] = vocabulary
    assert cause in refusal(made.changed(tmp_path, made.saved(content)))


def sparse(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_sparse()


def quantized(tensor: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def with_one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[3] = value
        return tensor

    return change


WEIGHTS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "NaN": (with_one(float("nan")), "output.bias: contains NaN or infinity"),
    "infinity": (with_one(float("-inf")), "output.bias: contains NaN or infinity"),
    "too large for float32": (
        lambda t: t.double().fill_(1e300), "output.bias: contains NaN or infinity"),
    "int8": (lambda t: t.to(torch.int8), "expected floating-point numbers, got torch.int8"),
    "int64": (lambda t: t.to(torch.int64), "expected floating-point numbers, got torch.int64"),
    "bool": (lambda t: t > 0, "a type ('torch.BoolStorage') that no model file has"),
    "complex": (
        lambda t: t.to(torch.complex64), "a type ('torch.ComplexFloatStorage') that no model"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "is not dense"),
    "quantized": (quantized, "a tensor that is not dense ('torch._utils._rebuild_qtensor')"),
    "sparse": (sparse, "a tensor that is not dense ('torch._utils._rebuild_sparse_tensor')"),
    "meta": (lambda t: t.to("meta"), "a tensor that is not dense"),
    "expanded": (
        lambda t: t[:1].expand(10**6, 10**6), "of shape [1000000, 1000000] in a part of"),
    "expanded to its size": (lambda t: t[:1].clone().expand(29), "of shape [29] in a part of 1"),
    "transposed": (lambda t: t.expand(1, 29).T, "the model has shape [29], the file [29, 1]"),
    "too short": (lambda t: t[:28].clone(), "the model has shape [29], the file [28]"),
    "empty": (lambda t: t[:0].clone(), "no numbers in its part"),
    "a list": (lambda t: t.tolist(), "output.bias: expected a tensor, got ["),
    "a number": (lambda t: 7.0, "output.bias: expected a tensor, got 7.0"),
    "nothing": (lambda t: None, "output.bias: expected a tensor, got None"),
}  # fmt: skip


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_are_not_the_models_are_refused(
    tmp_path: Path, content: dict[str, Any], what: str
) -> None:
    change, cause = WEIGHTS[what]
    state = content["state_dict"]
    state["output.bias"] = change(state["output.bias"])
    assert cause in refusal(made.changed(tmp_path, made.saved(content)))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda state: state | {7: state["output.bias"].clone()}, "7 is not a weight of this"),
        (lambda state: state | {"x\ny": torch.zeros(1)}, "'x\\ny' is not a weight of this model"),
        (lambda state: list(state.values()), "expected tensors by name, got ["),
        (lambda state: {n: t for n, t in state.items() if n != "output.bias"}, "bias is missing"),
        (lambda state: state | {(1, 2): 3}, "keys are not strings or integers"),
        (
            lambda state: state | {"recurrent.0.norm.bias": state["recurrent.0.norm.weight"]},
            "weights that share their numbers",
        ),
        (
            lambda state: state | {"recurrent.0.norm.bias": state["recurrent.0.norm.weight"][:]},
            "tensors that share their numbers",
        ),
        (
            lambda state: state | {"convs.0.norm.running_var": torch.full((4,), -1.0)},
            "running_var: contains a variance below 0",
        ),
    ],
    ids=range(8),
)
def test_state_dicts_that_are_not_the_models_are_refused(
    tmp_path: Path, content: dict[str, Any], change: Callable[[Any], Any], cause: str
) -> None:
    content["state_dict"] = change(content["state_dict"])
    assert cause in refusal(made.changed(tmp_path, made.saved(content)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_floating_point_weights_of_any_precision_are_rounded_to_float32(
    tmp_path: Path, content: dict[str, Any], dtype: torch.dtype
) -> None:
    state = content["state_dict"]
    content["state_dict"] = {
        name: torch.nn.Parameter(tensor.to(dtype)) for name, tensor in state.items()
    }
    loaded = load_checkpoint(made.changed(tmp_path, made.saved(content))).model.state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name].to(dtype).float())


def test_a_model_is_built_from_shapes_alone(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration within all bounds that asks for more than the file has."""
    content["model"] |= {"hidden_size": 3000, "num_layers": 6}
    path = made.changed(tmp_path, made.saved(content))
    assert ModelConfig(**content["model"]).num_weights > 10**8
    built: list[DeepSpeech2] = []

    def build(config: ModelConfig) -> DeepSpeech2:
        built.append(DeepSpeech2(config))
        return built[-1]

    monkeypatch.setattr(checkpoint_module, "DeepSpeech2", build)
    assert "recurrent.2.rnn.weight_ih_l0 is missing" in refusal(path)
    (model,) = built
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_loading_leaves_the_random_state_alone(tmp_path: Path, content: dict[str, Any]) -> None:
    path = made.changed(tmp_path, made.saved(content))
    before = torch.get_rng_state()
    model = load_checkpoint(path).model
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.requires_grad and p.is_contiguous() for p in model.parameters())


def test_a_file_is_read_once(
    tmp_path: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.changed(tmp_path, made.saved(content))
    opened = []
    really_open = builtins.open

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        if file == path:
            opened.append(file)
        return really_open(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", counting)
    load_checkpoint(path)
    assert len(opened) == 1


def laughs() -> bytes:
    """Lists of ten times the list before, thirty times over: 10^30 values in 700 instructions."""
    program = made.EMPTY_LIST + b"q\x00"
    for place in range(30):
        refer = pickle.BINGET + bytes([place])
        program += pickle.EMPTY_LIST + pickle.MARK + 10 * refer + pickle.APPENDS
        program += pickle.BINPUT + bytes([place + 1])
    return program


PROGRAMS: dict[str, tuple[bytes, str]] = {
    "a billion laughs": (laughs(), "makes no sense"),
    "a billion laughs, alone": (b"(" + laughs() + b"l", "(LIST)"),
    "a list that holds itself": (b"]q\x00h\x00a", "deep"),
    "lists 100,000 deep": (100_000 * b"]" + 99_999 * b"a", "is nested more than 50 deep"),
    "tuples 100,000 deep": (b")" + 100_000 * b"\x85", "is nested more than 50 deep"),
    "a key that is nested too deeply to be hashed": (
        b"}" + b")" + 100_000 * b"\x85" + b"Ns", "keys are not strings or integers"),
    "a number of 2,000 bits": (made.number(2**2000), "contains a number of 2001 bits"),
    "a number of 10 MB": (
        b"\x8b" + struct.pack("<i", 2**21) + bytes(2**21 - 1) + b"\x01", "(LONG4)"),
    "a decimal number": (b"I" + 1000 * b"9" + b"\n", "(INT)"),
    "a string longer than the file": (
        pickle.BINUNICODE + struct.pack("<I", 2**32 - 1) + b"abc", "expected 4294967295 bytes"),
    "a string of 2^60 bytes": (pickle.BINUNICODE8 + struct.pack("<Q", 2**60) + b"abc", "bytes"),
    "more than 4 MiB": (pickle.BINUNICODE + struct.pack("<I", 2**23) + bytes(2**23), "4 MiB"),
    "half a million instructions": (500_000 * b"N", "more than 300,000 instructions"),
    "a place in the memo far away": (b"Nr" + struct.pack("<I", 2**32 - 1) + b"0", "(POP)"),
    "a memo that is empty": (b"h\x07", "makes no sense"),
    "an empty stack": (b"a", "makes no sense"),
    "no mark": (b"NNt", "makes no sense"),
    "a mark that is left": (b"(", "makes no sense"),
    "two results": (b"NN", "makes no sense"),
    "an odd number of keys and values": (b"}(NNNu", "keys are not strings"),
    "appending to a dictionary": (b"}Na", "makes no sense"),
    "an unknown instruction": (b"\xff", "unknown"),
    "a protocol of the future": (b"\x95" + struct.pack("<Q", 1) + b"N", "(FRAME)"),
    "an object": (b"(" + made.named("os", "system") + b"o", "names code ('os.system')"),
    "an instance": (b"(ios\nsystem\n", "(INST)"),
    "a new object": (made.named("builtins", "bytearray") + b")\x81", "('builtins.bytearray')"),
    "an extension": (b"\x82\x01", "(EXT1)"),
    "10 GB from 10 bytes": (
        made.named("builtins", "bytearray") + made.number(10**10) + b"\x85R",
        "names code ('builtins.bytearray')"),
    "a storage from its size": (
        made.named("torch", "FloatStorage") + made.number(10**12) + b"\x85R", "makes no sense"),
    "a name alone": (made.named("torch", "FloatStorage"), "makes no sense"),
    "numbers alone": (made.storage("0", 4 * 41 * 11), "makes no sense"),
    "numbers that another object stands for": (b"}Q", "makes no sense"),
    "a tensor from numbers that are not": (
        made.named("torch._utils", "_rebuild_tensor_v2") + b"(NNNNtR", "makes no sense"),
    "a name of a million letters": (made.named("x" * 10**6, "\x1b"), "names code ('xxxx"),
}  # fmt: skip


@pytest.mark.parametrize("what", PROGRAMS)
def test_pickles_that_torch_save_does_not_write_are_refused(
    tmp_path: Path, content: dict[str, Any], what: str
) -> None:
    program, cause = PROGRAMS[what]
    archive = made.with_program(made.saved(content), made.PROTO + program + made.STOP)
    assert cause in refusal(made.changed(tmp_path, archive))


def test_a_billion_laughs_inside_a_checkpoint_are_refused(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    laugh: list[Any] = []
    for _ in range(30):
        laugh = [laugh] * 10
    for key in ("training", "vocabulary", "model"):
        archive = made.saved({**content, key: {"x": laugh}})
        assert "over and over" in refusal(made.changed(tmp_path, archive))


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_pickles_of_other_protocols_are_refused(
    tmp_path: Path, content: dict[str, Any], protocol: int
) -> None:
    program = pickle.dumps({"format": "x", "n": [1, 2.5, None, 10**20]}, protocol=protocol)
    archive = made.with_program(made.saved(content), program)
    assert "is not an egl-fast checkpoint" in refusal(made.changed(tmp_path, archive))


#: Sixteen numbers, 64 bytes, are in the part "0" of the file.
TENSORS: dict[str, tuple[bytes, str]] = {
    "more numbers than the part has": (
        made.tensor(made.storage("0", 10**12), offset=0, size=[16], stride=[1]),
        "claims 1000000000000 numbers of 4 bytes in the 64 bytes of its part '0'"),
    "numbers of another width": (
        made.tensor(made.storage("0", 16, "DoubleStorage"), offset=0, size=[8], stride=[1]),
        "claims 16 numbers of 8 bytes in the 64 bytes"),
    "a part that is not there": (
        made.tensor(made.storage("9", 16), offset=0, size=[16], stride=[1]),
        "lacks its part 'data/9'"),
    "a part by way of its folder": (
        made.tensor(made.storage("../data.pkl", 16), offset=0, size=[16], stride=[1]),
        "lacks its part 'data/../data.pkl'"),
    "16 numbers that claim 10^12": (
        made.tensor(made.storage("0", 16), offset=0, size=[10**6, 10**6], stride=[0, 0]),
        "of shape [1000000, 1000000] in a part of 16 numbers"),
    "numbers beyond the end": (
        made.tensor(made.storage("0", 16), offset=9, size=[8], stride=[1]), "in a part of 16"),
    "numbers far beyond the end": (
        made.tensor(made.storage("0", 16), offset=2**61, size=[1], stride=[1]), "in a part of 16"),
    "an offset that overflows": (
        made.tensor(made.storage("0", 16), offset=2**100, size=[1], stride=[1]), "no sense"),
    "a stride that overflows": (
        made.tensor(made.storage("0", 16), offset=0, size=[1], stride=[2**63]), "no sense"),
    "a stride below zero": (
        made.tensor(made.storage("0", 16), offset=8, size=[2], stride=[-1]), "no sense"),
    "a size below zero": (
        made.tensor(made.storage("0", 16), offset=0, size=[-4, -4], stride=[1, 1]), "no sense"),
    "a huge stride": (
        made.tensor(made.storage("0", 16), offset=0, size=[2], stride=[2**61]), "in a part of 16"),
    "sizes whose product overflows": (
        made.tensor(made.storage("0", 16), offset=0, size=[2**32, 2**32], stride=[0, 0]),
        "in a part of 16"),
    "no numbers, in a strange shape": (
        made.tensor(made.storage("0", 16), offset=0, size=[0, 2**61], stride=[0, 0]), "no sense"),
    "more dimensions than strides": (
        made.tensor(made.storage("0", 16), offset=0, size=[4, 4], stride=[1]), "no sense"),
    "a hundred dimensions": (
        made.tensor(made.storage("0", 16), offset=0, size=100 * [1], stride=100 * [1]), "no sense"),
    "the same numbers twice": (
        made.tuple_of(*2 * [made.tensor(made.storage("0", 16), offset=0, size=[16], stride=[1])]),
        "tensors that share their numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", TENSORS)
def test_tensors_that_are_not_in_the_file_are_refused(tmp_path: Path, what: str) -> None:
    program, cause = TENSORS[what]
    archive = made.with_program(
        made.saved({"x": torch.arange(16.0)}), made.PROTO + program + made.STOP
    )
    assert cause in refusal(made.changed(tmp_path, archive))


def test_a_tensor_of_any_strides_inside_the_file_is_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0)
    pieces = {"transposed": whole.clone().view(4, 6).T, "part": whole.clone()[3:9:2]}
    path = made.changed(tmp_path, made.saved(pieces))
    read = read_torch(path)
    for name, tensor in pieces.items():
        assert torch.equal(read[name], tensor)


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, value in members.items():
            file.writestr(name, value)
    return buffer.getvalue()


def patched(archive: bytes, sign: bytes, place: int, value: bytes, *, every: bool = True) -> bytes:
    """An archive with other bytes at a place after a sign."""
    changed, found = bytearray(archive), archive.find(sign)
    while found >= 0:
        changed[found + place : found + place + len(value)] = value
        found = archive.find(sign, found + 4) if every else -1
    return bytes(changed)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def overlapping(members: dict[str, bytes]) -> bytes:
    """An archive whose directory names the same 100 kB 5,000 times."""
    archive = made.archive_of({"data.pkl": bytes(100_000), **members})
    start = archive.find(CENTRAL)
    length = archive.find(CENTRAL, start + 4) - start
    entry = archive[start : start + length]
    names = [f"data/{n:03d}".encode() for n in range(5000)]
    entries = b"".join(entry.replace(b"data.pkl", name[:8].ljust(8, b"_")) for name in names)
    directory = entry + entries
    end = END + struct.pack("<4H2LH", 0, 0, 5001, 5001, len(directory), start, 0)
    return archive[:start] + directory + end


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "10 MB of zeros in 10 kB": (
        lambda a: zipped({f"archive/{n}": m for n, m in
                          {**made.members_of(a), "data/0": bytes(10**7)}.items()}),
        "is compressed (part 'archive/"),
    "compressed by bzip2": (
        lambda a: zipped({f"archive/{n}": m for n, m in made.members_of(a).items()},
                         method=zipfile.ZIP_BZIP2), "is compressed"),
    "compressed by nothing known": (
        lambda a: patched(a, CENTRAL, 10, struct.pack("<H", 99)), "is compressed"),
    "encrypted": (lambda a: patched(a, CENTRAL, 8, b"\x01\x08"), "is encrypted"),
    "sizes of 4 GB": (
        lambda a: patched(a, CENTRAL, 20, struct.pack("<LL", 2**32 - 2, 2**32 - 2)),
        "overlap, or are larger than the file"),
    "sizes of 4 EB": (
        lambda a: patched(a, CENTRAL, 20, 8 * b"\xff"), "is not an egl-fast checkpoint"),
    "a size and another": (lambda a: patched(a, CENTRAL, 24, b"\x01\x00\x00\x00"), "is compressed"),
    "another checksum": (lambda a: patched(a, CENTRAL, 16, b"abcd"), "Bad CRC-32"),
    "a place far away": (lambda a: patched(a, CENTRAL, 42, b"\xff\xff\xff\x7f"), "part '"),
    "names that are no text": (
        lambda a: patched(a, CENTRAL, 46, b"\xff\xfe"), "is not an egl-fast checkpoint"),
    "a name twice": (
        lambda a: made.archive_of(made.members_of(a)).replace(b"data/10", b"data/11"),
        "has its part 'data/11' twice"),
    "absolute names": (
        lambda a: made.archive_of(made.members_of(a), root=""), "has a part outside its folder"),
    "names that climb": (
        lambda a: made.archive_of(made.members_of(a), root=".."), "has a part outside its folder"),
    "a name that climbs": (
        lambda a: a.replace(b"archive/data/0", b"../hive/data/0"), "outside its folder ('../h"),
    "one place for all": (lambda a: overlapping(made.members_of(a)), "overlap"),
    "too many parts": (
        lambda a: made.archive_of({f"data/{n}": b"" for n in range(MAX_MEMBERS + 1)}),
        "has more than 10,000 parts"),
    "another byte order": (
        lambda a: made.archive_of({**made.members_of(a), "byteorder": b"big"}), "-endian"),
    "a directory of a million entries": (
        lambda a: made.archive_of(made.members_of(a))[:-22] + END
        + struct.pack("<4H2LH", 0, 0, 65535, 65535, 2**31, 0, 0),
        "is not an egl-fast checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives_that_lie_are_refused(
    tmp_path: Path, content: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, cause = ARCHIVES[what]
    path = made.changed(tmp_path, change(made.saved(content)))
    size = path.stat().st_size
    read = []
    really_read = zipfile.ZipFile.read

    def counting(self: zipfile.ZipFile, name: Any, pwd: bytes | None = None) -> bytes:
        value = really_read(self, name, pwd)
        read.append(len(value))
        return value

    monkeypatch.setattr(zipfile.ZipFile, "read", counting)
    assert cause in refusal(path)
    assert sum(read) <= size


def legacy(content: Any) -> bytes:
    return made.saved(content, _use_new_zipfile_serialization=False)


def nemo() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("model_config.yaml"))
    return buffer.getvalue()


FOREIGN: dict[str, tuple[str, bytes, str]] = {
    "legacy": ("x.pt", legacy({"a": torch.zeros(3)}), "of the form before torch 1.6"),
    "TorchScript": (
        "x.pt", zipped({"x/data.pkl": b"N.", "x/constants.pkl": b").", "x/code/a.py": b""}),
        "a TorchScript archive"),
    "safetensors": (
        "x.safetensors", struct.pack("<Q", 20) + b'{"a":{"dtype":"F32"}}' + bytes(50),
        "a safetensors file"),
    "ONNX": ("x.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
    "NeMo": ("x.nemo", nemo(), "a tar archive, as NeMo writes them"),
    "NeMo, compressed": ("x.nemo", gzip.compress(nemo()), "compressed with gzip"),
    "Keras 2": ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as Keras writes"),
    "Keras 3": (
        "x.keras", zipped({"config.json": b"{}", "model.weights.h5": b""}), "a Keras model"),
    "NumPy": ("x.npz", zipped({"a.npy": b""}), "a NumPy archive"),
    "a zip archive": ("x.zip", zipped({"a.txt": b""}), "a zip archive"),
    "a pickle": ("x.pkl", pickle.dumps([1, 2]), "a pickle"),
    "GGUF": ("x.gguf", b"GGUF" + bytes(50), "a GGUF file"),
    "an LFS pointer": (
        "base.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "a page": ("base.pt", b"\n<!DOCTYPE html><html>not found</html>", "an HTML page"),
    "a recording": ("x.wav", b"RIFF" + bytes(40), "a recording"),
    "an empty file": ("x.pt", b"", "an empty file"),
    "zeros": ("x.pt", bytes(600), "a file of zeros"),
    "text": ("x.pt", b"hello\n", "is not an egl-fast checkpoint but text;"),
    "a list": ("x.pt", made.saved([1]), "a torch file of something else"),
    "weights alone": (
        "x.pt", made.saved(torch.nn.Linear(2, 2).state_dict()), "a torch file of weights alone"),
    "Lightning": (
        "x.ckpt", made.saved({"state_dict": {}, "pytorch-lightning_version": "2"}), "of Lightning"),
    "a whole model": ("x.pt", made.saved(torch.nn.Linear(2, 2)), "names code ('torch.nn.modules."),
    "a training state": (
        "last.pt", made.saved({"checkpoint": {}, "optimizer": {}, "settings": {}}),
        "the state of a training run (give the model.pt beside it)"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_what_other_programs_write_is_named(tmp_path: Path, what: str) -> None:
    name, start, cause = FOREIGN[what]
    path = tmp_path / name
    path.write_bytes(start)
    message = refusal(path)
    assert "is not an egl-fast checkpoint" in message
    assert cause in message


@pytest.mark.parametrize(
    ("file", "cause"),
    [
        ("config.json", "a folder of a Hugging Face model"),
        ("model.pt", "a folder (give its model.pt)"),
        ("saved_model.pb", "a folder of a TensorFlow model"),
        ("other", "but a folder;"),
    ],
)
def test_folders_are_named(tmp_path: Path, file: str, cause: str) -> None:
    (tmp_path / file).touch()
    assert cause in refusal(tmp_path)


def test_pipes_and_names_that_no_file_has_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or device" in refusal(tmp_path / "pipe")
    for name in ("a\0b", "a/b", "\udcff"):
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / ("n" * 300))


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04"])
def test_a_terabyte_of_nothing_is_not_read(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "huge.pt"
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(10**12)
    assert "is not an egl-fast checkpoint but" in refusal(path)


def test_the_limits_leave_room_for_what_is_written() -> None:
    members = made.members_of(made.saved(checkpoint_content(random_checkpoint())))
    assert 100 * len(members["data.pkl"]) < MAX_PROGRAM_BYTES
    assert 100 * len(members) < MAX_MEMBERS
    vocabulary = [f"{n}" for n in range(2**16)]
    assert len(made.members_of(made.saved(vocabulary))["data.pkl"]) < MAX_PROGRAM_BYTES
    assert 4 * len(vocabulary) < MAX_STEPS
    assert FeatureConfig().window_samples * 100 < MAX_WINDOW_SAMPLES
    assert MAX_OVERLAP > 10
