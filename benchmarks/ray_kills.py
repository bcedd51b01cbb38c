"""Kills workers and a node of a Ray cluster while it scores, and compares with a local run.

    python benchmarks/ray_kills.py [--lines 6000] [--kills 20] [--seed 1]

Three nodes on loopback, each a Ray node of its own with one CPU. At seeded random moments 19
workers are killed with SIGKILL, and one node with all its processes, in whose place another comes.
The scores must be those of an undisturbed local run to the byte, each recording once. Writes
results/ray-kills.json. Ends with status 1 if they are not, or if the run was over before the last
kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "python_tests"))

from machine import machine
from recordings import random_checkpoint, write_recordings
from script import RESULTS, write_json

from egl_fast.checkpoint import save_checkpoint

NUM_FILES = 400
#: As egl_fast.ray.connection.on_loopback; here also for the command, which joins.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

OBJECT_STORE_BYTES = 80 * 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=6000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAY_TMPDIR"] = folder  # or whoever looks for a cluster here may find this one
        return kill_and_compare(Path(folder), chosen.lines, chosen.kills, chosen.seed)


def kill_and_compare(folder: Path, num_lines: int, num_kills: int, seed: int) -> int:
    rng = random.Random(seed)
    lengths = [rng.uniform(0.3, 0.7) for _ in range(NUM_FILES)]
    files = write_recordings(folder, ["ab"] * NUM_FILES, lengths).read_text().splitlines()
    pool = folder / "pool.jsonl"
    with open(pool, "w") as lines:
        for number in range(num_lines):
            line = {**json.loads(files[number % NUM_FILES]), "id": f"line-{number}"}
            lines.write(json.dumps(line) + "\n")
    save_checkpoint(folder / "tiny.pt", random_checkpoint())
    model = str(folder / "tiny.pt")
    score = [sys.executable, "-m", "egl_fast", "score", "--quiet", "--model", model,
             "--pool", str(pool), "--k", "4", "--threads", "1"]  # fmt: skip
    subprocess.run([*score, "--out", str(folder / "local.jsonl")], check=True)
    kills = disturbed(score, folder / "ray.jsonl", rng, num_kills)
    local = (folder / "local.jsonl").read_bytes()
    disturbed_scores = (folder / "ray.jsonl").read_bytes()
    ids = [json.loads(line)["id"] for line in disturbed_scores.splitlines()]
    once = ids == [f"line-{number}" for number in range(num_lines)]
    same = disturbed_scores == local
    errors = (folder / "ray.jsonl.errors.jsonl").exists()
    found = {
        "nodes": 3,
        "recordings": num_lines,
        "kills": kills,
        "seed": seed,
        "scores_identical": same,
        "each_recording_once_in_order": once,
        "errors": errors,
        "machine": machine(),
    }
    print(json.dumps(found, indent=1))
    write_json(RESULTS / "ray-kills.json", found)
    return 0 if same and once and not errors and kills == num_kills else 1


def disturbed(score: list[str], out: Path, rng: random.Random, num_kills: int) -> int:
    """Score on a cluster that loses workers and a node; returns how many kills were in time."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    node_of = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    try:
        cluster.add_node(**node_of)
        others = [cluster.add_node(**node_of) for _ in range(2)]
        cluster.wait_for_nodes()
        scoring = subprocess.Popen(
            [
                *score,
                "--engine",
                "ray",
                "--address",
                cluster.address,
                "--workers",
                "3",
                "--out",
                out,
            ]
        )
        node_at = rng.randrange(num_kills)
        done = 0
        while done < num_kills:
            time.sleep(rng.uniform(1.0, 5.0))
            if scoring.poll() is not None:
                break
            if done == node_at:
                cluster.remove_node(others.pop(rng.randrange(2)), allow_graceful=False)
                others.append(cluster.add_node(**node_of))
                print(f"kill {done + 1}: a node", flush=True)
            else:
                workers = workers_of(cluster)
                if not workers:
                    continue
                victim = rng.choice(workers)
                os.kill(victim, signal.SIGKILL)
                print(f"kill {done + 1}: worker {victim}", flush=True)
            done += 1
        if scoring.wait(timeout=1800) != 0:
            print(f"score ended with status {scoring.returncode}")
            return -1
        return done
    finally:
        cluster.shutdown()


def workers_of(cluster: object) -> list[int]:
    """Processes of our actors on the nodes of this cluster, and no others."""
    raylets = {
        info.process.pid
        for node in cluster.list_all_nodes()  # type: ignore[attr-defined]
        for info in node.all_processes.get("raylet", [])
    }
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_bytes().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        if title.startswith(b"ray::Worker") and parent in raylets:
            found.append(int(path.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
