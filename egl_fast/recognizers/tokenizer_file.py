"""A tokenizer's file as a vocabulary: ``tokenizer.json``, ``vocab.json``, or SentencePiece's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from egl_fast.errors import MissingExtraError, ModelError, one_line

SUFFIXES = (".json", ".model")

Encode = Callable[[str], list[int]]


class Tokens(NamedTuple):
    """What a tokenizer says about classes; ``Classes.of`` describes each."""

    vocabulary: list[str] | Mapping[str, int]
    special: set[int]
    encode: Encode | None


def read_tokenizer(path: Path) -> Tokens:
    """The tokens in a file.

    Args:
        path: ``.json``, of the library tokenizers or a dictionary from names to indices; or
            ``.model``, of SentencePiece.

    Raises:
        MissingExtraError: the library that reads it is not installed.
        ModelError: there is no such file, or it is something else.
    """
    if not path.is_file():
        raise ModelError(f"vocabulary {path}: no such file; give an existing one")
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"vocabulary {path}: expected a tokenizer.json, a vocab.json, or a .model file of "
            "SentencePiece"
        )
    try:
        return _sentence_pieces(path) if path.suffix == ".model" else _json(path)
    except ImportError as error:
        raise MissingExtraError(
            f"vocabulary {path}: needs {error.name}: pip install {error.name}"
        ) from None
    except Exception as error:  # the libraries raise all kinds
        raise ModelError(f"vocabulary {path}: cannot be read ({one_line(error)})") from error


def _sentence_pieces(path: Path) -> Tokens:
    library: Any = import_module("sentencepiece")
    tokenizer = library.SentencePieceProcessor(model_file=str(path))
    indices = range(tokenizer.vocab_size())
    no_text = (tokenizer.is_control, tokenizer.is_unknown, tokenizer.is_unused)
    return Tokens(
        [tokenizer.id_to_piece(index) for index in indices],
        {index for index in indices if any(says(index) for says in no_text)},
        refusing_unknown(tokenizer.encode, tokenizer.unk_id()),
    )


def _json(path: Path) -> Tokens:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got a {type(content).__name__}")
    if not isinstance(content.get("model"), dict):
        return Tokens(content, set(), None)
    library: Any = import_module("tokenizers")
    tokenizer = library.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = content["model"].get("unk_token")
    return Tokens(
        tokenizer.get_vocab(),
        {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special},
        refusing_unknown(
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
            content["model"].get("unk_id") if unknown is None else tokenizer.token_to_id(unknown),
        ),
    )


def refusing_unknown(encode: Encode, unknown: int | None) -> Encode:
    """The same function, with a KeyError for a character whose only class is the unknown one."""

    def labels(text: str) -> list[int]:
        found = encode(text)
        if unknown is not None and unknown in found:
            raise KeyError(next((one for one in text if unknown in encode(one)), text))
        return found

    return labels
