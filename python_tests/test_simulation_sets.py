"""Which recordings a simulation works with, and what it refuses before any training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from simulations import CONFIG, edit_manifest, write_simulation

from egl_fast.errors import ConfigError
from egl_fast.evaluation.simulation.config import SimulationConfig, read_config
from egl_fast.evaluation.simulation.preparation import prepare
from egl_fast.evaluation.simulation.sets import digest, hidden, read_sets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_simulation(tmp_path)
    return tmp_path


def read(folder: Path, *changes: tuple[str, str]) -> SimulationConfig:
    config = CONFIG
    for old, new in changes:
        assert config.count(old) == 1
        config = config.replace(old, new)
    path = folder / "config.toml"
    path.write_text(config, encoding="utf-8")
    return read_config(path)


def complaint(folder: Path, *changes: tuple[str, str], at: str) -> str:
    """The error of a configuration, which must name the line that holds ``at``."""
    config = read(folder, *changes)
    with pytest.raises(ConfigError) as caught:
        prepare(config)
    lines = (folder / "config.toml").read_text().splitlines()
    [number] = [number for number, line in enumerate(lines, start=1) if at in line]
    message = str(caught.value)
    place = f"config {folder / 'config.toml'}, line {number}: "
    assert message.startswith(place)
    assert "\n" not in message
    return message.removeprefix(place)


def ids(config: SimulationConfig, part: str) -> list[str]:
    return [member.utterance.id for member in read_sets(config)[part]]


def test_sources_are_filtered_in_the_order_of_the_manifest(folder: Path) -> None:
    assert ids(read(folder), "valid") == ["valid12.wav", "valid13.wav", "valid14.wav"]
    some = ('{ part = "valid" }', '{ part = "valid", nr = [14, 12] }')
    assert ids(read(folder, some), "valid") == ["valid12.wav", "valid14.wav"]


def test_a_sample_depends_on_its_seed_alone(folder: Path) -> None:
    def pool(seed: int, size: int = 4) -> list[str]:
        change = ('{ part = "pool" }', f'{{ part = "pool" }}\nsample = {size}')
        return ids(replace(read(folder, change), sample_seed=seed), "pool")

    assert pool(0) == pool(0) == sorted(pool(0), key=lambda name: int(name[4:-4]))
    assert len({tuple(pool(seed)) for seed in range(8)}) > 4
    # A larger sample contains the smaller one: a place does not depend on the sample's size.
    assert set(pool(0, 3)) < set(pool(0, 4))


def test_a_sample_is_drawn_from_what_is_left(folder: Path) -> None:
    filtered = ('{ part = "pool" }', '{ part = "pool" }\nsample = 4')
    excluded = (
        'where = { part = "pool" }',
        'exclude = ["base", "valid", "test"]\nsample = 4',
    )
    sample = ids(read(folder, filtered), "pool")
    assert len(sample) == 4
    assert ids(read(folder, excluded), "pool") == sample
    # Whether a recording is drawn depends on its id, not on what else there is.
    others = [n for n in range(4, 12) if f"pool{n}.wav" not in sample]
    for gone in others:
        numbers = [n for n in range(4, 12) if n != gone]
        fewer = ('{ part = "pool" }', f"{{ nr = {numbers} }}\nsample = 4")
        assert ids(read(folder, fewer), "pool") == sample


def test_what_another_set_has_can_be_left_out(folder: Path) -> None:
    config = read(folder, ('where = { part = "pool" }', 'exclude = ["base", "valid", "test"]'))
    assert ids(config, "pool") == ids(read(folder), "pool")


def test_sets_that_exclude_each_other_are_refused(folder: Path) -> None:
    message = complaint(
        folder,
        ('where = { part = "pool" }', 'exclude = "base"'),
        ('where = { part = "base" }', 'exclude = "pool"  # here'),
        at='exclude = "base"',
    )
    assert "base excludes pool excludes base" in message


def test_ids_and_keys_can_be_told_apart(folder: Path) -> None:
    config = read(
        folder, ('{ part = "pool" }', '{ part = "pool" }\nprefix = "p/"\nadd = { corpus = "c" }')
    )
    [member, *_] = read_sets(config)["pool"]
    assert member.utterance.id == "p/pool4.wav"
    assert member.utterance.record["corpus"] == "c"


def test_a_scorer_sees_no_text(folder: Path) -> None:
    pool = read_sets(read(folder))["pool"]
    for utterance, member in zip(hidden(pool), pool, strict=True):
        assert member.utterance.text is not None
        assert utterance == replace(member.utterance, text=None, record=utterance.record)
        assert utterance.record == {k: v for k, v in member.utterance.record.items() if k != "text"}


def test_a_digest_tells_all_that_training_sees_but_not_where_it_lies(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pool = read_sets(read(folder))["pool"]
    other = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(folder, other)
    assert digest(read_sets(read(other))["pool"]) == digest(pool)
    assert digest(reversed(pool)) != digest(pool)
    assert digest(pool[1:]) != digest(pool)
    changed = replace(pool[0], utterance=replace(pool[0].utterance, text="x"))
    assert digest([changed, *pool[1:]]) != digest(pool)
    for change in ({"id": "x"}, {"offset_seconds": 0.1}, {"duration_seconds": 0.2}):
        changed = replace(pool[0], utterance=replace(pool[0].utterance, **change))
        assert digest([changed, *pool[1:]]) != digest(pool), change
    (other / "pool4.wav").write_bytes((other / "pool5.wav").read_bytes())
    assert digest(read_sets(read(other))["pool"]) != digest(pool)


@pytest.mark.parametrize("part", ["base", "pool", "valid", "test"])
def test_a_recording_without_text_is_refused(folder: Path, part: str) -> None:
    number = {"base": 1, "pool": 5, "valid": 12, "test": 16}[part]
    edit_manifest(folder, number, text=None)
    message = complaint(folder, at=f"[[data.{part}]]")
    assert (
        f"{part}: utterance '{part}{number}.wav' ({folder / 'all.jsonl'}, line {number + 1})"
        in (message)
    )
    assert "has no text; add its transcript" in message


@pytest.mark.parametrize(
    ("part", "other"),
    [("base", "pool"), ("base", "test"), ("pool", "valid"), ("pool", "test"), ("valid", "test")],
)
def test_overlapping_sets_are_refused(folder: Path, part: str, other: str) -> None:
    change = (f'{{ part = "{other}" }}', f'{{ part = ["{other}", "{part}"] }}')
    first = {"base": "base0", "pool": "pool4", "valid": "valid12"}[part]
    message = complaint(folder, change, at=f"[[data.{other}]]")
    assert message.startswith(f"{other}: utterance '{first}.wav' is the same recording as")
    assert f'give exclude = ["{part}"]' in message


@pytest.mark.parametrize("other", ["pool", "valid", "test"])
def test_pretraining_must_not_hear_what_is_chosen_or_tested(folder: Path, other: str) -> None:
    more = '[[data.pretrain]]\nmanifest = "all.jsonl"\nwhere = { part = ["base", "%s"] }\n\n[model]'
    message = complaint(folder, ("[model]", more % other), at=f"[[data.{other}]]")
    assert "is the same recording as" in message
    assert "of pretrain;" in message


@pytest.mark.parametrize("other", ["pool", "test"])
def test_what_is_hidden_or_tested_must_not_decide_about_pretraining(
    folder: Path, other: str
) -> None:
    more = (
        '[[data.pretrain]]\nmanifest = "all.jsonl"\nwhere = { part = "base" }\n'
        '[[data.pretrain_valid]]\nmanifest = "all.jsonl"\n'
        'where = { part = ["valid", "%s"] }\n\n[model]'
    )
    message = complaint(folder, ("[model]", more % other), at=f"[[data.{other}]]")
    assert "of pretrain_valid;" in message


def test_a_copy_under_another_name_is_an_overlap_too(folder: Path) -> None:
    (folder / "test15.wav").write_bytes((folder / "pool7.wav").read_bytes())
    message = complaint(folder, at="[[data.test]]")
    assert "'test15.wav' is the same recording as 'pool7.wav' of pool" in message


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        ({"offset": 0.0}, "is the same recording as"),
        ({"offset": 0.1, "duration": 0.3}, "shares audio with"),
        ({"offset": 0.19, "duration": 0.2}, "shares audio with"),
    ],
)
def test_segments_of_one_recording_may_not_overlap(
    folder: Path, segment: dict[str, float], said: str
) -> None:
    """A test segment of the recording whose first 0.3 s are in the pool."""
    shutil.copy(folder / "pool7.wav", folder / "test15.wav")
    edit_manifest(folder, 7, duration=0.3)
    edit_manifest(folder, 15, **segment)
    assert f"{said} 'pool7.wav' of pool" in complaint(folder, at="[[data.test]]")


@pytest.mark.parametrize(
    "segment", [{"offset": 0.25, "duration": 0.14}, {"offset": 0.21, "duration": 0.2}]
)
def test_segments_of_one_recording_may_touch(folder: Path, segment: dict[str, float]) -> None:
    """Less than a tenth of a second in common counts as an inexact cut."""
    shutil.copy(folder / "pool7.wav", folder / "test15.wav")
    edit_manifest(folder, 7, duration=0.3)
    edit_manifest(folder, 15, **segment)
    assert read_sets(read(folder))


def test_a_stretch_that_begins_later_is_found_too(folder: Path) -> None:
    shutil.copy(folder / "pool7.wav", folder / "test15.wav")
    edit_manifest(folder, 7, offset=0.15, duration=0.25)
    edit_manifest(folder, 15, duration=0.3)
    message = complaint(folder, at="[[data.test]]")
    assert "shares audio with 'pool7.wav@0.15' of pool" in message


def test_exclude_leaves_out_what_overlaps(folder: Path) -> None:
    edit_manifest(folder, 7, duration=0.3)
    edit_manifest(folder, 15, audio_filepath="pool7.wav", id="cut", offset=0.1, duration=0.3)
    change = ('{ part = "test" }', '{ part = "test" }\nexclude = "pool"')
    before = read_sets(read(folder, change))["test"]
    edit_manifest(folder, 15, offset=0.25, duration=0.2)
    after = read_sets(read(folder, change))["test"]
    assert [member.utterance.id for member in after if member not in before] == ["cut"]


def test_exclude_knows_a_recording_however_its_path_is_written(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "m.jsonl").write_text(
        '{"audio_filepath": "../pool7.wav", "text": "ab"}\n'
        '{"audio_filepath": "../test15.wav", "text": "ab"}\n'
    )
    change = (
        'manifest = "all.jsonl"\nwhere = { part = "test" }',
        'manifest = "other/m.jsonl"\nexclude = "pool"',
    )
    assert ids(read(folder, change), "test") == ["../test15.wav"]
    turned = (
        ('manifest = "all.jsonl"\nwhere = { part = "pool" }', 'manifest = "other/m.jsonl"'),
        ('{ part = "test" }', '{ part = "test" }\nexclude = "pool"'),
    )
    assert ids(read(folder, *turned), "test") == ["test16.wav", "test17.wav"]


def test_equal_ids_are_refused(folder: Path) -> None:
    (folder / "other").mkdir()
    shutil.copy(folder / "base0.wav", folder / "other" / "pool4.wav")
    (folder / "other" / "m.jsonl").write_text('{"audio_filepath": "pool4.wav", "text": "ab"}\n')
    more = '[[data.base]]\nmanifest = "other/m.jsonl"\n\n[model]'
    message = complaint(folder, ("[model]", more), at="[[data.pool]]")
    assert "pool: id 'pool4.wav'" in message
    assert "prefix" in message
    (folder / "other" / "m.jsonl").write_text(
        '{"audio_filepath": "pool4.wav", "text": "ab", "id": "test15.wav"}\n'
    )
    # A recording that differs from all others in length.
    (folder / "other" / "pool4.wav").write_bytes((folder / "base0.wav").read_bytes()[:-200])
    more = '[[data.test]]\nmanifest = "other/m.jsonl"\n\n[model]'
    with pytest.raises(ConfigError, match=r"test: id 'test15\.wav' of .* is in .* already"):
        read_sets(read(folder, ("[model]", more)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('{ part = "pool" }', '{ part = "pol" }', "that is left has part = 'pol'"),
        ('{ part = "pool" }', "{ speaker = 1 }", "has the key 'speaker'"),
        ('{ part = "pool" }', '{ part = "pool", nr = [5, 99] }', "has nr = 99"),
        # True equals 1 in Python, but not in a manifest.
        ('{ part = "base" }', '{ part = "base", nr = true }', "has nr = True"),
        (
            'where = { part = "pool" }',
            'where = { part = "pool" }\nsample = 9',
            "sample = 9, but only 8 utterances are left",
        ),
        ('"50%"', '"0.1h"', "the pool has only"),
        ('"50%"', '"0.45s"', "the most informative utterance alone takes 0.5 s"),
        ("k = 4", 'k = 4\nparams = "x*"', "params 'x*' matches no trainable parameter"),
        ('"50%"', '"9"', "there are only 8 records"),
        ('"50%"', '"99%"', "takes all 8 utterances of the pool, which is an end point"),
        ('"25%"', '"1%"', "less than half a record"),
        ('preset = "tiny"\ncell = "rnn_tanh"', 'init = "none.pt"', "none.pt: no such file"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(
    folder: Path, old: str, new: str, expected: str
) -> None:
    assert expected in complaint(folder, (old, new), at=new.splitlines()[-1])


def test_a_manifest_or_a_recording_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "pool6.wav").unlink()
    assert "pool6.wav" in complaint(folder, at="[[data.pool]]")
    (folder / "all.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"line 6: manifest .*all.jsonl: no such file"):
        read_sets(read(folder))


def test_texts_that_cannot_be_trained_on_are_refused(folder: Path) -> None:
    edit_manifest(folder, 6, text="a" * 40)
    assert "'pool6.wav' (line 7): its text needs 79 frames" in complaint(folder, at="[[data.pool]]")
    edit_manifest(folder, 6, text="Ü")
    assert "character 'Ü'" in complaint(folder, at="[[data.pool]]")
