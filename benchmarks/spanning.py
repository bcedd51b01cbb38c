"""How many rows exact scoring pulls back, and how exact it is.

    python benchmarks/spanning.py rows --pool MANIFEST ... --recordings 200
    python benchmarks/spanning.py errors --recordings 12

``rows``: for each manifest, quantiles of the number of rows that span the cotangents of the 100
best labelings. ``errors``: squared norms of ten of the hundred, evenly chosen, against float64:
from a basis of their span, and from each hypothesis's own cotangent, both in float32.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
from collections.abc import Callable

import torch
from machine import machine
from script import options_of
from torch import Tensor
from workloads import evenly, inputs_of

from egl_fast import Scorer, ops
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape
from egl_fast.methods.exact import SPAN, OrthogonalBasis
from egl_fast.methods.method import has_own_rows

K = 100
QUANTILES = {"least": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "most": 1.0}


def rows(scorer: Scorer, pools: list[list[Utterance]], names: list[str]) -> None:
    """A line for each manifest."""
    columns = " ".join(f"{column:>6}" for column in ("number", *QUANTILES))
    print(f"{'manifest':44} {columns}")
    for name, pool in zip(names, pools, strict=True):
        found = sorted(num_rows(scorer, utterance) for utterance in pool)
        at = [found[round(q * (len(found) - 1))] for q in QUANTILES.values()]
        print(f"{name[-44:]:44} {len(pool):6} " + " ".join(f"{n:6}" for n in at), flush=True)


def num_rows(scorer: Scorer, utterance: Utterance) -> int:
    """Rows of one utterance; one per hypothesis if a basis would save too little."""
    with torch.no_grad():
        logits, lengths = scorer.model.eval()(*inputs_of(scorer, utterance))
    found = ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=K, span=SPAN)
    return int(found.num_directions)


def errors(scorer: Scorer, pools: list[list[Utterance]], names: list[str]) -> None:
    """A line for each recording."""
    double = copy.deepcopy(scorer.model).double()
    worst: dict[str, list[float]] = {"basis": [], "one by one": []}
    for utterance in (utterance for pool in pools for utterance in pool):
        features, lengths = inputs_of(scorer, utterance)
        engine, exact_engine = GradientEngine(scorer.model), GradientEngine(double)
        tape, exact_tape = (
            engine.run(features, lengths),
            exact_engine.run(features.double(), lengths),
        )
        logits, num_frames = tape.outputs
        found = ops.ctc_nbest_cotangents(logits, num_frames, num_hypotheses=K, span=SPAN)
        if has_own_rows(found, 0):
            print(f"{utterance.id[-40:]:40} a row for every hypothesis")
            continue
        labelings = found.hypotheses.labelings(0)
        some = list(range(0, len(labelings), max(1, len(labelings) // 10)))
        chosen = ops.Hypotheses.of([[labelings[k] for k in some]])
        truth = sq_norms(exact_engine, exact_tape, chosen)
        products = torch.stack(list(engine.gram(tape, found.cotangents).values())).sum(0)
        _, single = OrthogonalBasis.of(found, 0).finish(products[0], products[0])
        for name, values in (
            ("basis", single.sq_norms[some]),
            ("one by one", sq_norms(engine, tape, chosen)),
        ):
            worst[name].append(float((values / truth - 1).abs().max()))
        print(
            f"{utterance.id[-40:]:40} {int(found.num_directions):3} rows, largest error "
            + ", ".join(f"{name} {values[-1]:.1e}" for name, values in worst.items()),
            flush=True,
        )
    for name, values in worst.items():
        print(f"{name}: median {statistics.median(values):.1e}, largest {max(values):.1e}")


def sq_norms(engine: GradientEngine, tape: Tape, hypotheses: ops.Hypotheses) -> Tensor:
    """Of the hypotheses' own cotangents, in the precision of the engine's model."""
    logits, lengths = tape.outputs
    _, cotangents = ops.ctc_logits_cotangents(logits, lengths, hypotheses)
    return torch.stack(list(engine.sq_norms(tape, cotangents).values())).sum(0)[0]


MEASUREMENTS: dict[str, Callable[[Scorer, list[list[Utterance]], list[str]], None]] = {
    "rows": rows,
    "errors": errors,
}


def main() -> int:
    """Command line."""
    parser = options_of(__doc__, pools=True, recordings=12)
    parser.add_argument("what", choices=list(MEASUREMENTS))
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pools = [evenly(read_manifest(name), arguments.recordings) for name in arguments.pool]
    MEASUREMENTS[arguments.what](
        Scorer.from_checkpoint(arguments.model), pools, [str(path) for path in arguments.pool]
    )
    print(json.dumps(machine()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
