"""Make the manifests that examples/base.pt was trained on, from a collection like shared/data.

    python examples/training_manifests.py ../shared/data runs/manifests

Takes the train splits of speechocean762, GRID, LibriSpeech and AN4 (not FSDD: share-alike) and
sets every twentieth clip aside for validation.
"""

import json
import sys
from pathlib import Path

CORPORA = ("speechocean762", "grid_s1", "librispeech", "an4")


def main(collection: Path, out: Path) -> None:
    """Write ``train.jsonl`` and ``valid.jsonl`` into ``out``, with absolute audio paths."""
    parts: dict[str, list[str]] = {"train": [], "valid": []}
    for corpus in CORPORA:
        folder = (collection / corpus).resolve()
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        records = [record for record in map(json.loads, lines) if record["split"] == "train"]
        for number, record in enumerate(records):
            record["id"] = f"{corpus}/{record['audio_filepath']}"
            record["audio_filepath"] = str(folder / record["audio_filepath"])
            part = "valid" if number % 20 == 10 else "train"
            parts[part].append(json.dumps(record))
    out.mkdir(parents=True, exist_ok=True)
    for part, records_of_part in parts.items():
        (out / f"{part}.jsonl").write_text("\n".join(records_of_part) + "\n", encoding="utf-8")
        print(f"{out / part}.jsonl: {len(records_of_part)} utterances")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
