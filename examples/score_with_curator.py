"""A NeMo Curator pipeline with scores: a manifest in, a manifest with scores out.

    python examples/score_with_curator.py --pool examples/pool.jsonl --out scores.jsonl

Recordings that could not be scored are left out, as a stage of Curator's own can do it.
"""

import argparse
from pathlib import Path

from nemo_curator.backends.ray_data import RayDataExecutor
from nemo_curator.pipeline import Pipeline
from nemo_curator.stages.audio.common import ManifestWriterStage, PreserveByValueStage
from nemo_curator.stages.resources import Resources
from nemo_curator.tasks import AudioTask

from egl_fast.data.manifest import read_manifest
from egl_fast.ray.connection import connected
from egl_fast.ray.curator import ScoreStage

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read, score, leave out, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(HERE / "base.pt"))
    parser.add_argument("--pool", type=Path, default=HERE / "pool.jsonl", help="manifest")
    parser.add_argument("--out", type=Path, required=True, help="manifest with scores")
    parser.add_argument("--k", type=int, default=20, help="labelings per recording")
    parser.add_argument("--cpus", type=int, default=1, help="of each worker that scores")
    parser.add_argument("--address", help="of a cluster [default: started on this machine]")
    args = parser.parse_args()

    # Paths must lead to the recordings from every node.
    tasks = [
        AudioTask(
            dataset_name=args.pool.stem,
            data={**one.record, "audio_filepath": str(one.audio_path.resolve())},
        )
        for one in read_manifest(args.pool)
    ]
    score = ScoreStage(model=args.model, options={"k": args.k})
    pipeline = Pipeline(
        name="scores",
        stages=[
            score.with_(resources=Resources(cpus=args.cpus)),
            PreserveByValueStage("error", None),
            ManifestWriterStage(str(args.out.resolve())),
        ],
    )
    with connected(args.address):  # or Curator's RayClient
        scored = pipeline.run(RayDataExecutor(), initial_tasks=tasks)
    print(f"{len(scored or [])} of {len(tasks)} recordings were scored: {args.out}")


if __name__ == "__main__":
    main()
