"""How well an audit tells wrong transcripts from right ones, and which measure does it best.

    cd experiments/audit; export QUARTZNET_DIR=../../../shared/models/quartznet15x5_en
    data=../../../shared/data
    python measure.py --model ../../examples/base.pt --data $data/grid_s1/manifest.jsonl \\
        --split test --out grid.jsonl
    python measure.py --model quartznet.py:quartznet --params "c2*,c3*,head*" \\
        --data $data/speechocean762/manifest.jsonl --split test --out speechocean.jsonl
    python measure.py --model quartznet.py:quartznet --params "c2*,c3*,head*" \\
        --data $data/speechocean762/manifest_hard.jsonl --out hard.jsonl
    python measure.py --tell grid.jsonl --json ../results/audit_grid.json
    python measure.py --tell speechocean.jsonl --hard hard.jsonl \\
        --json ../results/audit_speechocean.json

The first three take an hour on one core. They measure, for up to 200 recordings, their own
transcript, that of another recording about as long, their own with one word replaced by another
transcript's, and their own with one word left out, each against 16 draws
(``egl_fast.labeling.audit``). The last two give the area under the curve of each measure: the
probability that a wrong transcript looks more suspicious than a right one, with 95% intervals by
resampling recordings. --hard compares true transcripts with the prompts of recordings that experts
found hardly intelligible or incomplete.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError
from egl_fast.gradients.engine import GradientEngine
from egl_fast.labeling.audit import audit
from egl_fast.recognizers.spec import load_recognizer
from egl_fast.training.metrics import count_edits

DRAWS = 16
KINDS = ("shuffled", "word replaced", "word left out")


def variants(text: str, other: str, chance: random.Random) -> dict[str, str]:
    words, others = text.split(), [word for word in other.split() if word not in text.split()]
    place = chance.randrange(len(words))
    made = {"true": text, "shuffled": other}
    if others:
        made["word replaced"] = " ".join(
            [*words[:place], chance.choice(others), *words[place + 1 :]]
        )
    if len(words) > 1:
        made["word left out"] = " ".join([*words[:place], *words[place + 1 :]])
    return made


def measure(arguments: argparse.Namespace) -> None:
    chance = random.Random(0)
    utterances = [one for one in read_manifest(arguments.data) if one.text and one.text.split()]
    if arguments.split:
        utterances = [one for one in utterances if one.record.get("split") == arguments.split]
    chance.shuffle(utterances)
    utterances = utterances[: arguments.limit]
    recognizer = load_recognizer(arguments.model, device=torch.device("cpu"))
    engine = GradientEngine(recognizer.module, params=arguments.params)
    out = Path(arguments.out)
    done = 0 if not out.exists() else len(out.read_text().splitlines())
    with out.open("a") as file:
        for number, utterance in enumerate(utterances):
            # Of a recording about as long, so that it fits into the frames.
            near = sorted(
                (one for one in utterances if one.text != utterance.text),
                key=lambda one: abs(len(one.text) - len(utterance.text)),
            )[:10]
            texts = variants(utterance.text, chance.choice(near).text, chance)
            if number < done:
                continue
            labelings = [recognizer.classes.labels(text) for text in texts.values()]
            try:
                found = audit(recognizer, engine, utterance, labelings, num_draws=DRAWS, seed=0)
            except AudioError as error:
                print(error)
                continue
            with torch.no_grad():
                recording = recognizer.load(utterance)
                inputs = recognizer.inputs([recording])
                logits, _ = recognizer.module(*inputs.positional, **inputs.named)
            path = logits[0].argmax(dim=1).unique_consecutive().tolist()
            heard = recognizer.classes.text([k for k in path if k != recognizer.classes.blank])
            line = {"id": utterance.id, "heard": heard, "texts": texts}
            line["drawn"] = [found[0].drawn_nlls, found[0].drawn_sq_norms]
            line["own"] = [[one.nll, one.num_labels, one.sq_grad_norm] for one in found]
            file.write(json.dumps(line) + "\n")
            file.flush()


def suspicion(line: dict, place: int) -> dict[str, float]:
    nll, labels, norm = line["own"][place]
    nlls, norms = line["drawn"]
    text = list(line["texts"].values())[place]
    edits = count_edits(text, line["heard"])
    mean, spread = statistics.fmean(nlls), statistics.pstdev(nlls)
    if math.isinf(nll):
        return dict.fromkeys(MEASURES, 1e9)
    # The draws' own squared norms are skewed, and zero where the model is sure.
    logs = [math.log(one + 1e-12) for one in norms]
    values = (
        nll,
        nll / labels,
        nll - mean,
        (nll - mean) / labels,
        (nll - mean) / (spread + 0.1),
        math.log(norm + 1e-12),
        math.log(norm + 1e-12) - statistics.fmean(logs),
        math.log(norm + 1e-12) - math.log(statistics.fmean(norms) + 1e-12),
        math.log(norm / labels + 1e-12),
        edits.char_edits / max(1, edits.chars),
    )
    return dict(zip(MEASURES, values, strict=True))


MEASURES = (
    "nll",
    "nll per label",
    "nll beyond the draws",
    "nll beyond the draws per label",
    "nll in deviations of the draws",
    "log norm",
    "log norm beyond the draws' mean log",
    "log norm beyond the draws' log mean",
    "log norm per label",
    "CER of what was heard",
)


def auc(right: np.ndarray, wrong: np.ndarray) -> float:
    ranks = np.concatenate([right, wrong])
    order = ranks.argsort(kind="stable")
    place = np.empty(len(ranks))
    _, first, counts = np.unique(ranks[order], return_index=True, return_counts=True)
    place[order] = np.repeat(first + (counts + 1) / 2, counts)
    return float(
        (place[len(right) :].sum() - len(wrong) * (len(wrong) + 1) / 2) / len(right) / len(wrong)
    )


def resamples(num_right: int, found: list) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All recordings, then 1,000 resamples of them: rows of the right and of the wrong."""
    yield np.arange(num_right), np.arange(len(found))
    chance = np.random.default_rng(0)
    for _ in range(1000):
        rows = chance.integers(num_right, size=num_right)
        if found[0][0] is None:  # other recordings
            yield rows, chance.integers(len(found), size=len(found))
        else:
            counts = np.bincount(rows, minlength=num_right)
            yield rows, np.repeat(np.arange(len(found)), counts[[n for n, _ in found]])


def with_interval(values: np.ndarray) -> list[float]:
    return [round(float(x), 4) for x in (values[0], *np.quantile(values[1:], [0.025, 0.975]))]


def tell(arguments: argparse.Namespace) -> None:
    lines = [json.loads(line) for line in Path(arguments.tell).read_text().splitlines()]
    names = [list(line["texts"]) for line in lines]
    right = [suspicion(line, own.index("true")) for line, own in zip(lines, names, strict=True)]
    wrong = {
        kind: [
            (n, suspicion(line, own.index(kind)))
            for n, (line, own) in enumerate(zip(lines, names, strict=True))
            if kind in own
        ]
        for kind in KINDS
    }
    if arguments.hard:
        hard = [json.loads(line) for line in Path(arguments.hard).read_text().splitlines()]
        wrong["hard"] = [(None, suspicion(line, 0)) for line in hard]
    result: dict = {"recordings": len(lines), "draws": DRAWS, "kinds": {}}
    for kind, found in wrong.items():
        own = result["kinds"][kind] = {"wrong": len(found)}
        sampled = list(resamples(len(right), found))
        areas = {}
        for name in MEASURES:
            good = np.array([one[name] for one in right])
            bad = np.array([one[name] for _, one in found])
            areas[name] = np.array([auc(good[rows], bad[others]) for rows, others in sampled])
        for name in MEASURES:
            difference = areas[name] - areas["nll per label"]
            own[name] = {
                "auc": with_interval(areas[name]),
                "minus that of nll per label": with_interval(difference),
            }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        Path(arguments.json).write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--split")
    parser.add_argument("--params")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--out")
    parser.add_argument("--tell")
    parser.add_argument("--hard")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    tell(arguments) if arguments.tell else measure(arguments)


if __name__ == "__main__":
    main()
