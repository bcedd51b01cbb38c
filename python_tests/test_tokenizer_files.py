"""A tokenizer's file as the vocabulary: texts and labels agree with the library that wrote it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_factory
import torch

from egl_fast.errors import EglError
from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.recognizer import Recognizer

TEXTS = ["hello world", "how are you", "naïve café", "the cat sat on the mat", "a"]


def sentence_piece(path: Path, **options: Any) -> Any:
    library: Any = pytest.importorskip("sentencepiece")
    content = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 4),
        model_writer=content,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    path.write_bytes(content.getvalue())
    return library.SentencePieceProcessor(model_file=str(path))


@pytest.mark.parametrize(
    "options",
    [
        {"vocab_size": 60},
        {"vocab_size": 40, "model_type": "char", "user_defined_symbols": ["<noise>"]},
        {"vocab_size": 320, "model_type": "bpe", "byte_fallback": True, "pad_id": 3},
    ],
)
def test_a_model_of_sentence_piece(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "unigram.model"
    own = sentence_piece(path, **options)
    size = own.vocab_size()
    classes = Classes.of(path, blank=size)
    assert len(classes.vocabulary) == size + 1
    assert Classes.of(str(path), size).vocabulary == classes.vocabulary
    for text in TEXTS:
        labels = own.encode(text)
        assert classes.labels(text) == labels
        assert classes.text([size, *labels, own.bos_id()]) == own.decode(labels) == text
    if options.get("byte_fallback"):
        assert classes.text(classes.labels("żaba")) == "żaba"
    else:
        with pytest.raises(KeyError, match="ż"):
            classes.labels("a żaba")
        assert classes.text(own.encode("ż a")) == "a"  # the unknown class is not text


def byte_level(library: Any) -> Any:
    own = library.Tokenizer(library.models.BPE())
    own.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    own.decoder = library.decoders.ByteLevel()
    return own, library.trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet()
    )


def metaspace(library: Any) -> Any:
    own = library.Tokenizer(library.models.Unigram())
    own.pre_tokenizer = library.pre_tokenizers.Metaspace()
    own.decoder = library.decoders.Metaspace()
    return own, library.trainers.UnigramTrainer(vocab_size=40, unk_token="<unk>")


def word_piece(library: Any) -> Any:
    own = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    own.pre_tokenizer = library.pre_tokenizers.Whitespace()
    own.decoder = library.decoders.WordPiece()
    return own, library.trainers.WordPieceTrainer(vocab_size=60)


def word_ends(library: Any) -> Any:
    own = library.Tokenizer(library.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    own.pre_tokenizer = library.pre_tokenizers.Whitespace()
    own.decoder = library.decoders.BPEDecoder(suffix="</w>")
    return own, library.trainers.BpeTrainer(vocab_size=60, end_of_word_suffix="</w>")


def characters(library: Any) -> Any:
    own = library.Tokenizer(library.models.BPE(unk_token="<unk>"))
    own.pre_tokenizer = library.pre_tokenizers.Split("", "isolated")
    own.decoder = library.decoders.Fuse()
    return own, library.trainers.BpeTrainer(vocab_size=1)


@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece, word_ends, characters])
def test_a_file_of_the_library_tokenizers(make: Callable[[Any], Any], tmp_path: Path) -> None:
    library: Any = pytest.importorskip("tokenizers")
    own, trainer = make(library)
    trainer.special_tokens = ["<pad>", "[UNK]", "<unk>", "[odd]"]
    trainer.show_progress = False
    own.train_from_iterator(TEXTS * 4, trainer)
    own.enable_padding(length=50)  # which is for batches of texts, not for labels
    path = tmp_path / "tokenizer.json"
    own.save(str(path))
    classes = Classes.of(path, "<pad>")
    assert len(classes.vocabulary) == own.get_vocab_size()
    own.no_padding()
    for text in TEXTS:
        labels = own.encode(text).ids
        assert classes.labels(text) == labels
        # The blank and special tokens are not text, whatever their names.
        assert classes.text([0, *labels, 3]) == own.decode(labels).strip() == text
    if make is byte_level:
        assert classes.text(classes.labels("żaba")) == "żaba"
    else:
        with pytest.raises(KeyError):
            classes.labels("żaba")


def test_a_vocabulary_of_characters_as_json(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({"<pad>": 0, "|": 1, "A": 2}))
    classes = Classes.of(path, "<pad>")
    assert classes.labels("A A") == [2, 1, 2]


def test_a_factorys_recognizer_takes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({name: index for index, name in enumerate("abno")}))
    made = Recognizer.of(small_factory.built(), str(path), small_factory.front_end, blank=4)
    assert made.classes.vocabulary == (*"abno", "<blank>")
    assert made.classes.text(made.classes.labels("nob")) == "nob"
    assert made.prepare(torch.ones(800).numpy(), name="x").seconds == 0.05


def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(name: str, content: str = "") -> str:
        path = tmp_path / name
        if content:
            path.write_text(content)
        with pytest.raises(EglError) as caught:
            Classes.of(path, 0)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"vocabulary {path}: ")
        return str(caught.value)

    assert "no such file" in refusal("none.json")
    assert "expected a tokenizer.json" in refusal("vocab.bin", "x")
    assert "cannot be read" in refusal("broken.json", "{")
    assert "expected an object, got a list" in refusal("list.json", "[]")
    assert "cannot be read" in refusal("odd.json", '{"model": {"type": "odd"}}')
    assert "cannot be read" in refusal("odd.model", "no protobuf")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert "pip install sentencepiece" in refusal("odd.model")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert "pip install tokenizers" in refusal("odd.json")
