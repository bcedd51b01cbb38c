"""How pages write numbers and texts of manifests."""

import math

import pytest

from egl_fast.evaluation.reporting.wording import plain, plain_exp, shown_text, signed

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2e3, "2,000"),
        (0.0003, "0.0003"),
        (150_000.0, "150,000"),
        (1_234_567.8, "1,234,568"),
        (99.96, "100"),
        (0.5, "0.5"),
        (-0.0, "0"),
        (-2.5, "−2.5"),
        (2.66e-7, "2.66 × 10⁻⁷"),
        (9.999e6, "1 × 10⁷"),
        (1e300, "1 × 10³⁰⁰"),
        (-1e-300, "−1 × 10⁻³⁰⁰"),
    ],
)
def test_numbers_are_written_for_people(value, written):
    assert plain(value).replace(NBSP, " ") == written


def test_exponentials_beyond_floats_are_written():
    for power in (-5000, -320, 400):
        assert plain_exp(power * math.log(10) + 1e-9).replace(NBSP, " ").startswith("1 × 10")
    assert plain_exp(math.log(0.25)) == plain(0.25)


def test_a_negative_zero_has_no_sign():
    assert signed(-0.001) == "0.00"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00\x1b[31m\x7f\x9b", r"a\x00\x1b[31m\x7f\x9b"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\ud800b", r"a\ud800b"),
        ("a\tb\nc", "a b c"),
        # Characters that languages and emoji need stay.
        ("\u0645\u06cc\u200c\u062e\u0648\u200f", "\u0645\u06cc\u200c\u062e\u0648\u200f"),
        ("👨\u200d👩\u200d👧 é", "👨\u200d👩\u200d👧 é"),
        ("a" + "\u0301" * 500 + "b", "a" + "\u0301" * 4 + "b"),
        ("x" * 10_000, "x" * 299 + "…"),
        (["a"], ""),
        (None, ""),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, shown):
    assert shown_text(text) == shown
