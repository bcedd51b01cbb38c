"""What annotators answer to the tutorial's tasks, and the export that Label Studio makes of it.

``check_label_studio.py`` sends the same answers to a real server, and holds this export to its own.

    python python_tests/label_studio_export.py tasks.json export.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).resolve().parent.parent / "examples" / "pool.jsonl"


def annotation(task: dict[str, Any], said: dict[str, str]) -> dict[str, Any]:
    """An annotation as the labeling page sends it: the transcript, or, of no speech, a skip.

    Args:
        task: a line of the tasks that were imported.
        said: transcript by the name of the recording.
    """
    text = said[Path(task["data"]["audio_filepath"]).name]
    # The text area that was filled in, changed by hand.
    [area] = task["predictions"][0]["result"]
    changed = {**area, "origin": "prediction-changed", "value": {"text": [text]}}
    return {"result": [changed] if text else [], "was_cancelled": not text, "lead_time": 3.5}


def transcripts() -> dict[str, str]:
    """What is said in the sample's pool, by the name of the recording; "" where nothing is."""
    lines = map(json.loads, SAMPLE.read_text(encoding="utf-8").splitlines())
    return {Path(line["audio_filepath"]).name: line["text"] for line in lines}


def exported(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The export as JSON, each task annotated, by Label Studio 1.23.2."""
    said = transcripts()
    return [_item(number, task, annotation(task, said)) for number, task in enumerate(tasks, 1)]


def _item(number: int, task: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    times = {
        "created_at": "2026-01-01T12:00:00.000000Z",
        "updated_at": "2026-01-01T12:00:00.000000Z",
    }
    place = {"project": 1, "task": number}
    [sent] = task["predictions"]
    unset = ("cluster", "neighbors", "model", "model_run")
    prediction = {
        **sent,
        **times,
        **place,
        **dict.fromkeys(unset),
        "id": number,
        "created_ago": "0\xa0minutes",
        "mislabeling": 0.0,
    }
    unset = (
        "draft_created_at",
        "import_id",
        "last_action",
        "parent_prediction",
        "parent_annotation",
    )
    done = {
        **answer,
        **times,
        **place,
        **dict.fromkeys((*unset, "last_created_by")),
        "id": number,
        "completed_by": 1,
        "updated_by": 1,
        "ground_truth": False,
        "bulk_created": False,
        "prediction": prediction,
        "result_count": len(answer["result"]),
        "unique_id": f"00000000-0000-0000-0000-{number:012}",
    }
    counts = ("comment_count", "unresolved_comment_count", "cancelled_annotations")
    return {
        **times,
        **dict.fromkeys(counts, 0),
        "id": number,
        "inner_id": number,
        "data": task["data"],
        "annotations": [done],
        "predictions": [number],
        "drafts": [],
        "meta": {},
        "allow_skip": True,
        "total_annotations": 1,
        "total_predictions": 1,
        "last_comment_updated_at": None,
        "comment_authors": [],
        "project": 1,
        "updated_by": 1,
    }


if __name__ == "__main__":
    tasks, export = map(Path, sys.argv[1:])
    export.write_text(json.dumps(exported(json.loads(tasks.read_text()))), encoding="utf-8")
