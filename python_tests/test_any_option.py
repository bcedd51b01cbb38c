"""Any text on the command line, in a TOML file, or in a vocabulary is a value or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from any_input import FRAGMENTS, any_bytes, few, put, value_or_line
from hypothesis import example, given
from hypothesis import strategies as st

from egl_fast.cli import options
from egl_fast.cli.main import cli
from egl_fast.data.vocabulary_file import read_vocabulary
from egl_fast.evaluation.simulation.config import read_config, resolved
from egl_fast.recognizers import spec
from egl_fast.recognizers.tokenizer_file import read_tokenizer
from egl_fast.selection.budget import parse_budget
from egl_fast.selection.cost import Cost

PIECES = [piece.decode("utf-8", "surrogateescape") for piece in FRAGMENTS]


def any_text(*valid: str) -> st.SearchStrategy[str]:
    """Valid pieces, and others."""
    pieces = st.sampled_from([*valid, *PIECES]) | st.text(max_size=3)
    return st.sampled_from(valid) | st.lists(pieces, max_size=5).map("".join)


@few
@given(any_text("20%", "3.5h", "90m", "500", "1.", "-", "+"))
def test_any_text_is_a_budget_or_one_line(text: str) -> None:
    budget = value_or_line(parse_budget, text)
    if budget is not None:
        assert budget.amount > 0
        float(budget.amount)


@few
@given(any_text("0.5 + 0.02*seconds + 0.01*words", "2*", "seconds", "words", " + ", "0.1"))
@example("0." + "1" * 5000)
def test_any_text_is_a_cost_or_one_line(text: str) -> None:
    cost = value_or_line(Cost.parse, text)
    if cost is not None:
        assert max(cost) > 0
        float(cost.each)


@few
@given(any_text("512MiB", "2", ".5", "G", "KB", " "))
@example("9" * 5000 + "G")
def test_any_text_is_a_size_or_one_line(text: str) -> None:
    assert value_or_line(options.Size().convert, text, None, None) != 0


@few
@given(any_text("cpu", "auto", "cuda:", "1"))
def test_any_text_is_a_device_or_one_line(text: str) -> None:
    value_or_line(options.Device().convert, text, None, None)


@few
@given(any_text("hf:", "hf+remote-code:", "nemo:", "a.py:f", "+", "pickle", "~"))
def test_any_text_names_a_model_or_nothing(text: str) -> None:
    value_or_line(spec.parse, text)


ROOT = click.Context(cli)
COMMANDS = {name: cli.get_command(ROOT, name) for name in cli.list_commands(ROOT)}

#: All options of all commands that take one value.
OPTIONS = [
    (command, option)
    for command in filter(None, COMMANDS.values())
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag and option.nargs == 1
]


@few
@given(st.sampled_from(OPTIONS), any_text("1", "0.5", "a", "1/2", "a=1", "tensorboard:x"))
def test_any_text_is_an_options_value_or_one_line(
    own: tuple[click.Command, click.Option], text: str
) -> None:
    command, option = own
    given_text: Any = (text,) if option.multiple else text
    with click.Context(command) as context:
        value_or_line(option.process_value, context, given_text)


CONFIG = b"""
strategies = ["random", "egl"]
queries = ["10%", "0.5h"]
seeds = [0, 1]
[data.pool]
manifest = "pool.jsonl"
where = {kind = ["a", 1, true]}
[data.base]
manifest = "base.jsonl"
[data.valid]
manifest = "valid.jsonl"
[data.test]
manifest = "test.jsonl"
[training]
learning_rate = [1e-3]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def simulation(path: Path, *overrides: str) -> Any:
    return resolved(read_config(path, overrides))


@few
@given(any_bytes(CONFIG))
@example(b"queries = " + b"[" * 3000 + b"]" * 3000)
@example(b"seeds = [" + b"9" * 5000 + b"]")
def test_any_bytes_are_a_configuration_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, **{"x.toml": content})
    value_or_line(simulation, folder / "x.toml")


@few
@given(any_text("seeds", ".0", "=", "[1]", "data.pool.where.kind", '"a"', "{a=1}"))
@example("queries.²=1")
@example("queries." + "9" * 5000 + "=1")
@example("seeds=" + "[" * 3000)
def test_any_text_is_an_override_or_one_line(folder: Path, text: str) -> None:
    put(folder, **{"x.toml": CONFIG})
    value_or_line(simulation, folder / "x.toml", text)


@few
@given(any_bytes(b"a\nb\n<space>\n", b'["a", " "]'))
def test_any_bytes_are_a_vocabulary_or_one_line(folder: Path, content: bytes) -> None:
    put(folder, vocabulary=content)
    classes = value_or_line(read_vocabulary, folder / "vocabulary")
    if classes is not None:
        assert len(set(classes)) == len(classes) > 1


@few
@given(
    any_bytes(b'{"<pad>": 0, "a": 1}', b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}'),
    st.sampled_from(["x.json", "x.model"]),
)
def test_any_bytes_are_a_tokenizer_or_one_line(folder: Path, content: bytes, name: str) -> None:
    put(folder, **{name: content})
    value_or_line(read_tokenizer, folder / name)


#: Without what ends lines, is a space, or marks the start of UTF-8.
printed = st.characters(
    exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="\ufeff"
)


@few
@given(st.lists(printed, unique=True))
@example(["[", "0"])
@example(["[", '"'])
def test_a_written_vocabulary_is_read(folder: Path, characters: list[str]) -> None:
    if characters:
        put(folder, vocabulary="".join(f"{one}\n" for one in [*characters, "<space>"]).encode())
        assert read_vocabulary(folder / "vocabulary") == ("<blank>", *characters, " ")
