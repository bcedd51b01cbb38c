"""How labels become text, for every way that tokenizers mark words, bytes and special tokens."""

from __future__ import annotations

import pytest

from egl_fast.recognizers.classes import Classes
from egl_fast.recognizers.vocabulary import Spelling

PLAIN = ["<blank>", " ", "'", "a", "b"]


@pytest.mark.parametrize(
    ("names", "labels", "text"),
    [
        (PLAIN, [1, 3, 1, 4, 1], " a b "),
        (["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B"], [1, 5, 3, 4, 6, 4, 2], "A B"),
        (["<blk>", "|", " ", "a"], [3, 1, 2, 3], "a| a"),  # here the bar is a character
        (["<blk>", "\u2581he", "llo", "\u2581", "y"], [1, 2, 3, 4], "hello y"),
        (["<blk>", "\u2581a", "<0xC3>", "<0xA9>", "<0x41>"], [1, 2, 3, 4], "aéA"),
        (["<blk>", "\u2581a", "<0xC3>", "<0xA9>", "<0x41>"], [1, 2], "a\ufffd"),
        (["[PAD]", "[UNK]", "he", "##llo", "you", "##"], [2, 3, 1, 4, 5], "hello you ##"),
        (["<pad>", "<|endoftext|>", "\u0120a", "\u00c3", "\u00a9", "b"], [2, 1, 3, 4, 5], "aéb"),
        (["<blk>", "<space>", "a"], [1, 2, 1, 2], " a a"),
        (["<blk>", "<noise>", "a"], [1, 2], "<noise>a"),
        (["<blk>", "\ud800", "a"], [1, 2], "\ud800a"),
    ],
)
def test_labels_become_text(names: list[str], labels: list[int], text: str) -> None:
    assert Classes.of(names, 0).text(labels) == text


def test_the_blanks_own_name_is_never_text() -> None:
    assert Classes.of(["a", "b"], 1).text([0, 1, 0]) == "aa"


def test_special_classes_and_the_delimiter_can_be_named() -> None:
    classes = Classes.of(["_", "*", "a", "x"], 0, special=[3], delimiter="*")
    assert classes.text([3, 2, 1, 2, 1]) == "a a"
    assert classes.labels("a a") == [2, 1, 2]


def test_names_of_a_checkpoint_are_text_as_they_stand() -> None:
    spelling = Spelling.literal(["<blank>", "|", "<s>", "\u2581"], blank=0)
    assert spelling.text([1, 2, 3, 1]) == "|<s> |"


@pytest.mark.parametrize(
    ("names", "text", "labels"),
    [
        (PLAIN, "ab a", [3, 4, 1, 3]),
        (["<pad>", "|", "A", "<unk>"], "A A", [2, 1, 2]),
        (["<blk>", "a", "<noise>", "<space>"], "a a", [1, 3, 1]),
    ],
)
def test_characters_can_be_spelled(names: list[str], text: str, labels: list[int]) -> None:
    classes = Classes.of(names, 0)
    assert classes.can_spell
    assert classes.labels(text) == labels
    assert classes.text(labels) == text
    with pytest.raises(KeyError, match="é"):
        classes.labels(f"{text}é")


@pytest.mark.parametrize("names", [["_", "\u2581a", "bc"], ["_", "\u00c3", "\u0120a"], ["_", "ab"]])
def test_parts_of_words_or_characters_cannot_be_spelled_without_a_tokenizer(
    names: list[str],
) -> None:
    classes = Classes.of(names, 0)
    assert not classes.can_spell
    with pytest.raises(ValueError, match="no tokenizer"):
        classes.labels("a")
    assert Classes.of(names, 0, encode=lambda text: [1] * len(text)).labels("aa") == [1, 1]


def test_the_case_is_that_of_all_letters() -> None:
    assert Classes.of(PLAIN, 0).case == "lower"
    assert Classes.of(["<pad>", "|", "A", "'"], 0).case == "upper"
    assert Classes.of(["_", "a", "B"], 0).case is None
    assert Classes.of(["_", "1"], 0).case is None
