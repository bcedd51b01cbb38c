"""Other toolkits' lists of recordings, written by their own libraries where these are installed."""

from __future__ import annotations

import csv
import gzip
import tarfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from recordings import write_manifest

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest, read_manifest_and_hash
from egl_fast.errors import AudioError, ManifestError

RATE_HZ = 16000

#: 64 names that any of the formats might stumble over; none has a space in the Kaldi sense.
NAMES = [
    f"{folder}{stem}{number}"
    for folder, stem, number in product(
        ("", "a/", "a/b b/", "ü/"), ("plain", 'q"uote', "it's", "größe,日本"), range(4)
    )
]


class Speech(NamedTuple):
    """A folder of recordings, and their texts by id."""

    folder: Path
    texts: dict[str, str]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.wav"


def samples_of(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Different for each, 20 ms and more, exact in 16 bits."""
    count = 320 + 16 * number
    return (np.arange(count, dtype=np.float32) % (number + 2)) / 128


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Speech:
    folder = tmp_path_factory.mktemp("speech")
    texts = {}
    for number, name in enumerate(NAMES):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples_of(number), RATE_HZ)
        texts[name] = f'{name} said "ja, größe"\u2028number {number}'
    return Speech(folder, texts)


def check(
    utterances: list[Utterance], *, texts: dict[str, str] | None, ids: list[str] = NAMES
) -> None:
    """That each recording is there, in any order, with its own samples and text."""
    assert sorted(u.id for u in utterances) == sorted(ids)
    for utterance in utterances:
        number = ids.index(utterance.id)
        found = load_audio(utterance, sample_rate_hz=RATE_HZ)
        np.testing.assert_array_equal(found, samples_of(number))
        assert utterance.text == (None if texts is None else texts[NAMES[number]])


# Folders, lists, recordings.


def test_a_folder_is_read_with_all_its_folders(speech: Speech) -> None:
    check(read_manifest(speech.folder), texts=None)


def test_what_is_no_recording_is_passed_over(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", samples_of(0), RATE_HZ)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "._a.wav").write_bytes(b"what macOS leaves behind")
    (tmp_path / "utf16").write_bytes("a".encode("utf-16"))
    (tmp_path / "b").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [u.id for u in read_manifest(tmp_path)] == ["a", "b"]


def test_ids_that_differ_only_in_their_suffix_keep_it(tmp_path: Path) -> None:
    for name in ("x.wav", "x.flac", "y.wav"):
        soundfile.write(tmp_path / name, samples_of(0), RATE_HZ)
    assert [u.id for u in read_manifest(tmp_path)] == ["x.flac", "x.wav", "y"]


def test_names_that_are_no_text_are_still_opened(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", samples_of(3), RATE_HZ)
    (tmp_path / "x.wav").rename(tmp_path / "\udcff.wav")
    (utterance,) = read_manifest(tmp_path)
    assert len(load_audio(utterance, sample_rate_hz=RATE_HZ)) == len(samples_of(3))


@pytest.mark.parametrize("packed", [False, True])
def test_a_list_has_one_path_per_line(speech: Speech, tmp_path: Path, packed: bool) -> None:
    lines = "".join(f"{speech.path(name)}\n" for name in NAMES).encode()
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(lines) if packed else lines)
    check(read_manifest(path), texts=None, ids=[str(speech.folder / name) for name in NAMES])


def test_paths_count_from_the_list_or_else_the_current_folder(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(speech.folder)
    for path in (speech.folder / "list.txt", tmp_path / "elsewhere" / "list.txt"):
        path.write_text("".join(f"./{name}.wav\n" for name in NAMES), encoding="utf-8")
        check(read_manifest(path), texts=None)
    (speech.folder / "list.txt").unlink()


def test_a_recording_is_a_source(speech: Speech) -> None:
    (utterance,) = read_manifest(speech.path("plain0"))
    assert utterance.id == str(speech.folder / "plain0")


# Kaldi.


def kaldi(speech: Speech, folder: Path, **more: str) -> Path:
    """Its ids have no spaces, and its files are sorted as bytes."""
    folder.mkdir(exist_ok=True)
    ids = {name.replace(" ", "_"): name for name in NAMES}
    order = sorted(ids, key=str.encode)
    files = {
        "wav.scp": [f"{key} {speech.path(ids[key])}" for key in order],
        "text": [f"{key} {speech.texts[ids[key]]}" for key in order],
        "utt2spk": [f"{key} speaker{key.count('/')}" for key in order],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    for name, content in more.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return folder


KALDI_IDS = [name.replace(" ", "_") for name in NAMES]


def test_kaldi_data(speech: Speech, tmp_path: Path) -> None:
    utterances = read_manifest(kaldi(speech, tmp_path))
    check(utterances, texts=speech.texts, ids=KALDI_IDS)
    assert {u.record["speaker"] for u in utterances} == {"speaker0", "speaker1", "speaker2"}
    check(read_manifest(tmp_path / "wav.scp"), texts=speech.texts, ids=KALDI_IDS)


def test_kaldi_segments(speech: Speech, tmp_path: Path) -> None:
    kaldi(
        speech,
        tmp_path,
        segments="s1 plain3 0.005 0.015\ns2 plain3 0.01 -1\n",
        text="s2 two words\n",
        utt2spk="s1 a\ns2 b\n",
    )
    one, two = read_manifest(tmp_path)
    assert (one.id, one.offset_seconds, one.duration_seconds, one.text) == ("s1", 0.005, 0.01, None)
    assert (two.id, two.offset_seconds, two.duration_seconds) == ("s2", 0.01, None)
    assert (two.text, two.record["speaker"]) == ("two words", "b")
    whole = samples_of(3)
    np.testing.assert_array_equal(load_audio(one, sample_rate_hz=RATE_HZ), whole[80:240])
    np.testing.assert_array_equal(load_audio(two, sample_rate_hz=RATE_HZ), whole[160:])


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"wav_scp": "u sph2pipe -f wav a.sph |\n"}, "line 1: is a pipe (sph2pipe -f wav a.sph |)"),
        ({"wav_scp": "u a.ark:17\n"}, "extract it with Kaldi's wav-copy"),
        ({"wav_scp": "u\n"}, "has nothing after 'u'"),
        ({"wav_scp": "b b.wav\na a.wav\n"}, "'a' comes after 'b'; sort the folder"),
        ({"text": "b x\na y\n"}, "text, line 2: 'a' comes after 'b'; sort the folder"),
        ({"segments": "s r 0 1\n"}, "segments, line 1: recording 'r' is not in"),
        ({"segments": "s plain0 1 0.5\n"}, "ends at 0.5, before it starts"),
        ({"segments": "s plain0 1\n"}, "expected an utterance, its recording, start and end"),
    ],
)
def test_what_kaldi_data_cannot_say(
    speech: Speech, tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(kaldi(speech, tmp_path, **files))
    assert complaint in str(caught.value)


# Tables.


def table(path: Path, header: list[str], rows: list[list[str]], **form: Any) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **form).writerows([header, *rows])
    return path


def test_a_table_of_speechbrain(speech: Speech, tmp_path: Path) -> None:
    rows = [[n, "0.02", str(speech.path(n)), "spk", speech.texts[n]] for n in NAMES]
    path = table(tmp_path / "train.csv", ["ID", "duration", "wav", "spk_id", "wrd"], rows)
    utterances = read_manifest(path)
    assert [u.id for u in utterances] == NAMES
    assert [u.text for u in utterances] == list(speech.texts.values())
    assert {(u.duration_seconds, u.record["speaker"]) for u in utterances} == {(0.02, "spk")}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("ID,wav,start,stop\na,a.wav,100,200\n", "line 2: 'start' counts samples"),
        ("ID,wav\na,$data_root/a.wav\n", "starts with a placeholder; replace it"),
        ("ID,wav,duration\na,a.wav,long\n", "line 2: 'duration' is 'long', not a number"),
        ("ID,wav\na,\n", "line 2: names no recording"),
        ("ID,wav\na,b,c\n", "line 2: has 3 columns, the header 2"),
        ('ID,wav\na,"b"c\n', "line 2: cannot be read as a table"),
        ("file_name,text\n", "without any recording"),
    ],
)
def test_what_tables_cannot_say(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "x.csv")
    assert complaint in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_folder_with_metadata_of_hugging_face(speech: Speech, suffix: str) -> None:
    path = speech.folder / f"metadata.{suffix}"
    rows = [{"file_name": f"{n}.wav", "transcription": speech.texts[n], "x": n} for n in NAMES]
    if suffix == "csv":
        table(path, list(rows[0]), [list(row.values()) for row in rows])
    else:
        write_manifest(path, rows)
    try:
        for source in (path, speech.folder):
            utterances = read_manifest(source)
            check(utterances, texts=speech.texts)
            assert [u.record["x"] for u in utterances] == NAMES
    finally:
        path.unlink()


def test_a_table_of_common_voice(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "common_voice_de_1.mp3", np.zeros(8000), 16000)
    header = "client_id\tpath\tsentence\tup_votes\tage\n"
    (tmp_path / "validated.tsv").write_text(
        f'{header}abc\tcommon_voice_de_1.mp3\t"Ja, sagte er.\t2\t\n', encoding="utf-8"
    )
    (utterance,) = read_manifest(tmp_path / "validated.tsv")
    assert utterance.id == "common_voice_de_1"
    assert utterance.text == '"Ja, sagte er.'
    assert utterance.record["speaker"] == "abc"
    assert utterance.record["up_votes"] == "2"
    load_audio(utterance, sample_rate_hz=RATE_HZ)


# NeMo.


@pytest.fixture
def tarred(speech: Speech, tmp_path: Path) -> Path:
    """As NeMo's convert_to_tarred_audio_dataset.py writes it, with two shards."""
    lines = []
    for shard in (0, 1):
        with tarfile.open(tmp_path / f"audio_{shard}.tar", "w") as archive:
            for number, name in enumerate(NAMES):
                if number % 2 == shard:
                    member = f"{name}.wav".replace("/", "_")
                    archive.add(speech.path(name), arcname=member)
                    lines.append(
                        {"audio_filepath": member, "duration": 0.02, "text": speech.texts[name],
                         "shard_id": shard, "id": name}
                    )  # fmt: skip
    lines[1] = {**lines[1], "audio_filepath": lines[0]["audio_filepath"][:-4] + "-sub1.wav"}
    write_manifest(tmp_path / "tarred_audio_manifest.json", lines)
    return tmp_path


def test_a_tarred_manifest_of_nemo(tarred: Path) -> None:
    for source in (tarred, tarred / "tarred_audio_manifest.json"):
        utterances = read_manifest(source)
        assert len(utterances) == len(NAMES)
        for place, utterance in enumerate(utterances):
            number = NAMES.index(utterance.id) if place != 1 else NAMES.index(utterances[0].id)
            found = load_audio(utterance, sample_rate_hz=RATE_HZ)
            np.testing.assert_array_equal(found, samples_of(number)[: len(found)])


def test_a_shard_that_is_missing_is_named(tarred: Path) -> None:
    (tarred / "audio_1.tar").unlink()
    with pytest.raises(ManifestError, match=r"line 33: there is no .*audio_1\.tar, which should"):
        read_manifest(tarred)


@pytest.mark.parametrize(
    ("inside", "complaint"),
    [
        ("none.wav", "contains no 'none.wav'; make the manifest again"),
        ("", "contains no ''"),
    ],
)
def test_a_member_that_is_missing_is_named(tarred: Path, inside: str, complaint: str) -> None:
    path = write_manifest(tarred / "m.jsonl", [{"audio_filepath": f"audio_0.tar::{inside}"}])
    (utterance,) = read_manifest(path)
    with pytest.raises(AudioError, match=complaint):
        load_audio(utterance, sample_rate_hz=RATE_HZ)


def test_a_compressed_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(bytes(1024)))
    path = write_manifest(tmp_path / "m.jsonl", [{"audio_filepath": "a.tar::x"}])
    (utterance,) = read_manifest(path)
    with pytest.raises(AudioError, match="if it is compressed, decompress it"):
        load_audio(utterance, sample_rate_hz=RATE_HZ)


# Lhotse.


@pytest.fixture
def lhotse_sets(speech: Speech) -> tuple[Any, Any, Any]:
    lhotse = pytest.importorskip("lhotse")
    recordings = [lhotse.Recording.from_file(speech.path(n), recording_id=n) for n in NAMES]
    supervisions = [
        lhotse.SupervisionSegment(
            id=n, recording_id=n, start=0, duration=r.duration, text=speech.texts[n],
            speaker="me", custom={"corpus": "x"},
        )
        for n, r in zip(NAMES, recordings, strict=True)
    ]  # fmt: skip
    sets = (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )
    cuts = lhotse.CutSet.from_manifests(recordings=sets[0], supervisions=sets[1])
    return (*sets, lhotse.CutSet.from_cuts(c.with_id(c.supervisions[0].id) for c in cuts))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_lhotse(lhotse_sets: Any, speech: Speech, tmp_path: Path, suffix: str) -> None:
    recordings, supervisions, cuts = lhotse_sets
    paths = [tmp_path / f"x_{n}_dev.{suffix}" for n in ("recordings", "supervisions", "cuts")]
    for path, found in zip(paths, (recordings, supervisions, cuts), strict=True):
        found.to_file(path)
    check(read_manifest(paths[0]), texts=None)
    # Recordings beside their supervisions are not read twice.
    for sources in (paths[1:2], paths[:2], paths[2:]):
        utterances = read_manifest(*sources)
        check(utterances, texts=speech.texts)
        assert {(u.record["speaker"], u.record["corpus"]) for u in utterances} == {("me", "x")}


def test_pieces_of_lhotse_are_segments(lhotse_sets: Any, tmp_path: Path) -> None:
    piece = lhotse_sets[2]["plain3"].truncate(offset=0.005, duration=0.01, preserve_id=True)
    type(lhotse_sets[2]).from_cuts([piece]).to_file(tmp_path / "cuts.jsonl")
    (utterance,) = read_manifest(tmp_path / "cuts.jsonl")
    found = load_audio(utterance, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found, samples_of(3)[80:240])


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (lambda cut: cut.pad(duration=9), "line 1: is a MixedCut, not a piece of one recording"),
        (lambda cut: cut.perturb_speed(1.1), "is changed when Lhotse loads it (Speed)"),
    ],
)
def test_what_lhotse_makes_of_recordings_is_refused(
    lhotse_sets: Any, tmp_path: Path, how: Callable[[Any], Any], complaint: str
) -> None:
    path = tmp_path / "cuts.jsonl"
    cuts = lhotse_sets[2]
    type(cuts).from_cuts([how(cuts["plain3"])]).to_file(path)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"type": "MonoCut", "recording": {"sources": 3}}, "is not what Lhotse writes"),
        ({"type": "MonoCut", "features": {}}, "is a cut of features"),
        ({"sources": [], "sampling_rate": 1, "id": "a", "duration": 1}, "is not one file"),
        ({"sources": None, "sampling_rate": 1}, "is not what Lhotse writes"),
        ({"recording_id": "a", "start": 0, "duration": 1}, "their recordings are not beside it"),
        (
            {"sources": [{"type": "command", "source": "rm x"}], "sampling_rate": 1, "id": "a"},
            "is not one file (its sources: command)",
        ),
        (
            {"type": "MonoCut", "channel": 1, "id": "c", "start": 0, "duration": 1,
             "recording": {"sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}]}},
            "is channel 1 of a recording with 2",
        ),
    ],
)  # fmt: skip
def test_what_lhotse_knows_and_we_do_not_is_refused(
    tmp_path: Path, line: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write_manifest(tmp_path / "x.jsonl", [line]))
    assert complaint in str(caught.value)


# Hugging Face.


@pytest.fixture
def dataset(speech: Speech) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    columns = {
        "audio": [str(speech.path(name)) for name in NAMES],
        "id": NAMES,
        "sentence": list(speech.texts.values()),
        "nr": list(range(len(NAMES))),
    }
    made = datasets.Dataset.from_dict(columns)
    return made.cast_column("audio", datasets.Audio(sampling_rate=RATE_HZ, decode=False))


def embedded(dataset: Any) -> Any:
    from datasets.table import embed_table_storage

    return dataset.with_format("arrow").map(embed_table_storage, batched=True, batch_size=7)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_dataset_that_was_saved(
    dataset: Any, speech: Speech, tmp_path: Path, num_shards: int
) -> None:
    dataset.save_to_disk(tmp_path / "saved", num_shards=num_shards)
    utterances = read_manifest(tmp_path / "saved")
    check(utterances, texts=speech.texts)
    assert [u.record["nr"] for u in utterances] == list(range(len(NAMES)))
    # Rows without their own ids are counted, whatever the number of files.
    dataset.remove_columns("id").save_to_disk(tmp_path / "other", num_shards=num_shards)
    assert [u.id for u in read_manifest(tmp_path / "other")] == [f"other/{n}" for n in range(64)]


def test_splits_of_a_dataset(dataset: Any, tmp_path: Path) -> None:
    from datasets import DatasetDict

    splits = dataset.remove_columns("id").train_test_split(test_size=16, seed=0)
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    utterances = read_manifest(tmp_path / "saved")
    assert [u.id for u in utterances][46:50] == ["train/46", "train/47", "test/0", "test/1"]
    assert {u.record["split"] for u in utterances} == {"train", "test"}


@pytest.mark.parametrize("is_inside", [False, True])
def test_parquet(dataset: Any, speech: Speech, tmp_path: Path, is_inside: bool) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train-00000.parquet"
    (embedded(dataset) if is_inside else dataset).to_parquet(path, batch_size=10)
    for source in (path, tmp_path):
        utterances = read_manifest(source)
        check(utterances, texts=speech.texts)
        assert [u.record["nr"] for u in utterances] == list(range(len(NAMES)))


def test_a_parquet_file_without_audio_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match="has no column of audio among"):
        read_manifest(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        read_manifest(tmp_path / "y.parquet")


def test_damaged_archives_get_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "x.arrow"}]}')
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "x.arrow").write_bytes(b"not arrow")
    with pytest.raises(ManifestError, match=r"x\.arrow: cannot be read as an Arrow file"):
        read_manifest(tmp_path)
    (tmp_path / "dataset_dict.json").write_text("{")
    with pytest.raises(ManifestError, match="is not a complete dataset"):
        read_manifest(tmp_path)
    line = write_manifest(tmp_path / "x.json", [{"audio_filepath": "a.wav", "shard_id": 0}])
    (tmp_path / "audio_0.tar").write_bytes(b"not tar")
    with pytest.raises(ManifestError, match=r"audio_0\.tar: cannot be read as a tar archive"):
        read_manifest(line)


# Several sources.


def test_several_sources_follow_each_other(speech: Speech, tmp_path: Path) -> None:
    kaldi(speech, tmp_path / "kaldi")
    one = write_manifest(tmp_path / "one.jsonl", [{"audio_filepath": "../x.wav", "offset": 1}])
    utterances = read_manifest(one, speech.folder, f"k={tmp_path / 'kaldi'}")
    assert utterances[0].id == "../x.wav@1"
    assert utterances[0].record["audio_filepath"] == str(tmp_path.parent / "x.wav")
    check(utterances[1:65], texts=None)
    check(utterances[65:], texts=speech.texts, ids=[f"k/{name}" for name in KALDI_IDS])


def test_equal_ids_are_refused(speech: Speech, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"id 'a/b b/.*put a name before one of them: NAME="):
        read_manifest(speech.folder, speech.folder / "." / ".." / speech.folder.name)
    path = tmp_path / "list.txt"
    path.write_text("a.wav\na.flac\n")
    with pytest.raises(ManifestError, match=r"line 2: id 'a' .*; give each its own id"):
        read_manifest(path)


def test_the_hash_is_of_what_was_read(speech: Speech, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{speech.path('plain0')}\n")
    first = read_manifest_and_hash(path).sha256
    assert read_manifest_and_hash(path).sha256 == first
    path.write_text(f"{speech.path('plain1')}\n")
    assert read_manifest_and_hash(path).sha256 != first


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("Path,Text\na.wav,hi\n", "line 1: a table needs a column .*; it has Path, Text"),
        ("path;path\na;b\n", "line 1: two columns have the same name"),
    ],
)
def test_a_table_with_other_columns_is_told_so(tmp_path: Path, table: str, said: str) -> None:
    (tmp_path / "pool.csv").write_text(table)
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "pool.csv")
