"""A step of a Ray Data pipeline that adds scores: a manifest in, a Parquet data set out.

    python examples/score_with_ray_data.py --pool examples/pool.jsonl --out scores

The same works on any data set of Ray's with a column `audio_filepath`, or `audio` in place of it.
"""

import argparse
from pathlib import Path

import ray
from ray.data.expressions import col

from egl_fast.data.manifest import read_manifest
from egl_fast.ray import ScoreRecordings
from egl_fast.ray.connection import connected

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(HERE / "base.pt"))
    parser.add_argument("--pool", type=Path, default=HERE / "pool.jsonl", help="manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder of Parquet files")
    parser.add_argument("--workers", type=int, default=1, help="that have the model")
    parser.add_argument("--k", type=int, default=20, help="labelings per recording")
    parser.add_argument("--address", help="of a cluster [default: started on this machine]")
    args = parser.parse_args()

    # Paths must lead to the recordings from every node.
    rows = [
        {"id": one.id, "audio_filepath": str(one.audio_path.resolve())}
        for one in read_manifest(args.pool)
    ]
    with connected(args.address):  # or ray.init(), in a program of your own
        scored = ray.data.from_items(rows).map_batches(
            ScoreRecordings,
            fn_constructor_args=(args.model,),
            fn_constructor_kwargs={"k": args.k},
            batch_size=64,
            concurrency=args.workers,
            num_cpus=1,  # threads of each worker
        )
        scored.write_parquet(str(args.out.resolve()))
        written = ray.data.read_parquet(str(args.out.resolve()))
        failed = written.filter(expr=~col("error").is_null()).count()
        print(f"{written.count()} recordings, {failed} of them could not be scored")
        for row in written.sort("egl", descending=True).take(3):
            print(f"{row['id']}  egl {row['egl']:.4g}  {row['pred_text']}")


if __name__ == "__main__":
    main()
