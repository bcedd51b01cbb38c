"""Records are plain and finite, and survive a round trip through JSON."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.records import (
    STRATEGIES,
    Hypothesis,
    ScoreRecord,
    from_json,
    random_score,
    to_json,
)

#: DESIGN.md, section 3. Fields may be added at the end; the order never changes.
CONTRACT = [
    "id",
    "duration",
    "num_frames",
    "pred_text",
    "num_hypotheses",
    "beam_mass",
    "egl",
    "egl_stderr",
    "egl_normalized",
    "egl_unsquared",
    "egl_full",
    "egl_full_stderr",
    "entropy",
    "pctc",
    "random",
]
FIELDS = [f.name for f in dataclasses.fields(ScoreRecord)]
NUMBERS = [name for name in CONTRACT if name not in ("id", "pred_text")]
COUNTS = ["num_frames", "num_hypotheses"]


def a_record(**changes):
    values = {
        "id": "a.wav",
        "duration": 1.5,
        "num_frames": 75,
        "pred_text": "hi",
        "num_hypotheses": 2,
        "beam_mass": 0.75,
        "egl": 3.0,
        "egl_stderr": 0.0,
        "egl_normalized": 4.0,
        "egl_unsquared": 1.25,
        "egl_full": None,
        "egl_full_stderr": None,
        "entropy": 0.125,
        "pctc": 0.01,
        "random": 0.5,
    }
    return ScoreRecord(**{**values, **changes})


HYPOTHESES = (Hypothesis("hi", (8, 9), -0.5, 2.0), Hypothesis("", (), -2.0, 9.0))


def test_fields_are_those_of_the_contract_in_its_order():
    assert FIELDS[: len(CONTRACT)] == CONTRACT
    assert a_record().hypotheses == ()


def test_a_repr_fits_a_line_or_two():
    many = tuple(Hypothesis("so " * 99, tuple(range(297)), -0.5, 2.0) for _ in range(100))
    record = a_record(pred_text="so " * 99, hypotheses=many, manifest={"text": "so " * 99})
    shown = repr(record)
    assert shown.startswith("ScoreRecord('a.wav', 'so so ")
    assert shown.endswith("egl=3, entropy=0.125, pctc=0.01, hypotheses[100])")
    assert len(shown) < 180
    assert len(repr(many[0])) < 120


def test_records_keep_the_keys_of_their_manifest():
    record = a_record(manifest={"speaker": "x", "duration": 9.0, "typicality": 1.0})
    assert {**to_json(record), "speaker": 0} == {"speaker": 0, **to_json(a_record())}
    assert from_json(to_json(record)).manifest == {"speaker": "x"}
    assert record == a_record()
    assert hash(record) == hash(a_record())


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_record().egl = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        HYPOTHESES[0].log_prob = 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in COUNTS])
def test_nan_and_infinity_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        a_record(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["log_prob", "sq_grad_norm"])
def test_nan_and_infinity_are_refused_in_hypotheses(name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        dataclasses.replace(HYPOTHESES[0], **{name: value})


@pytest.mark.parametrize("value", ["1", True, None, [1.0]])
@pytest.mark.parametrize("name", ["num_frames", "pctc"])
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(TypeError, match=f"^{name}: "):
        a_record(**{name: value})


def test_counts_are_whole_and_not_negative():
    with pytest.raises(TypeError, match=r"^num_frames: "):
        a_record(num_frames=1.5)
    with pytest.raises(ValueError, match=r"^num_hypotheses: "):
        a_record(num_hypotheses=-1)


def test_manifest_keys_come_first_and_ours_override():
    manifest = {"audio_filepath": "a.wav", "duration": 9.0, "text": "hi", "speaker": {"age": 3}}
    line = to_json(a_record(), manifest)
    assert list(line) == [*manifest, *(name for name in CONTRACT if name != "duration")]
    assert line["duration"] == 1.5
    assert line["speaker"] == {"age": 3}
    assert manifest["duration"] == 9.0


def test_hypotheses_are_written_only_where_there_are_any():
    assert "hypotheses" not in to_json(a_record())
    # Hypotheses of an earlier run belong to another model.
    assert "hypotheses" not in to_json(a_record(), {"hypotheses": [1]})
    line = to_json(a_record(hypotheses=HYPOTHESES))
    assert list(line)[-1] == "hypotheses"
    assert line["hypotheses"][0] == {
        "text": "hi",
        "labels": [8, 9],
        "log_prob": -0.5,
        "sq_grad_norm": 2.0,
    }
    assert isinstance(line["hypotheses"][0]["labels"], list)


finite = st.floats(allow_nan=False, allow_infinity=False)
hypotheses = st.builds(
    Hypothesis, st.text(), st.lists(st.integers(0, 5000)).map(tuple), finite, finite
)
score_records = st.builds(
    ScoreRecord,
    id=st.text(),
    duration=finite,
    num_frames=st.integers(0),
    pred_text=st.text(),
    num_hypotheses=st.integers(0),
    **{
        name: st.none() | finite if name in ("egl_unsquared", "egl_full") else finite
        for name in CONTRACT[5:]
    },
    hypotheses=st.lists(hypotheses, max_size=3).map(tuple),
)


@given(score_records, st.dictionaries(st.text(), st.integers()))
def test_json_gives_the_same_record_back(record, manifest):
    text = json.dumps(to_json(record, manifest), allow_nan=False)
    assert from_json(json.loads(text)) == record


@pytest.mark.parametrize("name", CONTRACT)
def test_from_json_names_what_is_missing(name):
    line = to_json(a_record())
    del line[name]
    with pytest.raises(ValueError, match=f"^{name}: missing$"):
        from_json(line)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 3}, "^id: "),
        ({"pred_text": None}, "^pred_text: "),
        ({"egl": "3"}, "^egl: "),
        ({"egl": math.nan}, "^egl: "),
        ({"entropy": None}, "^entropy: "),
        ({"hypotheses": "hi"}, "^hypotheses: "),
        ({"hypotheses": ["hi"]}, "^hypotheses: "),
        ({"hypotheses": [{"text": "hi"}]}, "^hypotheses: labels: expected a list"),
        (
            {"hypotheses": [{"text": "", "labels": [0.5], "log_prob": 0, "sq_grad_norm": 0}]},
            "^labels: ",
        ),
        (
            {"hypotheses": [{"text": "", "labels": [], "log_prob": 0, "sq_grad_norm": math.inf}]},
            "^sq_grad_norm: ",
        ),
    ],
)
def test_from_json_names_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        from_json({**to_json(a_record()), **change})


def test_random_score_is_the_documented_hash():
    # `printf 7:a.wav | sha256sum` starts with these 64 bits, of which the first 53 count.
    assert random_score(7, "a.wav") == (0xAA88E21B6A67882D >> 11) / 2**53


@given(st.integers(), st.text())
def test_random_score_is_in_the_unit_interval(seed, identity):
    assert 0 <= random_score(seed, identity) < 1


def test_random_score_takes_lone_surrogates():
    assert 0 <= random_score(0, "\ud800") < 1


def test_random_scores_are_spread_evenly():
    scores = [random_score(0, f"utterance {i}") for i in range(4000)]
    counts = [sum(low <= 10 * score < low + 1 for score in scores) for low in range(10)]
    # A count of 400 has standard deviation 19.
    assert all(abs(count - 400) < 100 for count in counts)


def test_strategies_are_fields_each_with_one_line():
    assert set(STRATEGIES) <= set(FIELDS)
    assert all(text and "\n" not in text for text in STRATEGIES.values())
