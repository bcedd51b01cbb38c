"""Make the manifests that examples/base.pt was trained and tested on.

    python examples/training_manifests.py ../shared/data runs/manifests

From a collection laid out like shared/data: ``train`` and ``valid`` are the train splits of
speechocean762, GRID, LibriSpeech and AN4 (not FSDD: share-alike), every twentieth clip being set
aside for validation; ``test`` is the test splits of the same corpora.
"""

import json
import sys
from pathlib import Path

CORPORA = ("speechocean762", "grid_s1", "librispeech", "an4")


def main(collection: Path, out: Path) -> None:
    """Write the three parts into ``out``, with absolute audio paths."""
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for corpus in CORPORA:
        folder = (collection / corpus).resolve()
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        num_train = 0
        for record in map(json.loads, lines):
            part = record["split"]
            if part == "train":
                part = "valid" if num_train % 20 == 10 else "train"
                num_train += 1
            record["id"] = f"{corpus}/{record['audio_filepath']}"
            record["audio_filepath"] = str(folder / record["audio_filepath"])
            record["corpus"] = corpus
            parts[part].append(json.dumps(record))
    out.mkdir(parents=True, exist_ok=True)
    for part, records in parts.items():
        (out / f"{part}.jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
        print(f"{out / part}.jsonl: {len(records)} utterances")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
