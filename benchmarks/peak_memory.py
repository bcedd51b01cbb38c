"""Peak memory of scoring one recording, in its own process for each length.

    python benchmarks/peak_memory.py [--k 100] [--memory 2GiB] [SECONDS ...]

The recording is noise, whose labelings have little in common: they span nearly as many dimensions
as there are hypotheses, which takes the most memory.
"""

import argparse
import subprocess
import sys

from script import MODEL


def main() -> None:
    """One line for each length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", nargs="*", type=float, default=[2.0, 5.0, 20.0])
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--memory", default="2GiB", help="as of `egl-fast score`")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.model, arguments.seconds[0], arguments.k, arguments.memory)
        return
    for seconds in arguments.seconds:
        options = ["--measure", "--model", arguments.model, "--k", str(arguments.k)]
        options += ["--memory", arguments.memory]
        subprocess.run([sys.executable, __file__, str(seconds), *options], check=True)


def measure(model: str, seconds: float, k: int, memory: str) -> None:
    """Score one recording and print the peak of the process."""
    import numpy as np

    from egl_fast import Scorer
    from egl_fast.cli.options import Size
    from egl_fast.tracking.memory import peak_memory_bytes

    scorer = Scorer.from_checkpoint(model, memory_bytes=Size().convert(memory, None, None))
    rng = np.random.default_rng(0)
    waveform = 0.1 * rng.standard_normal(round(16000 * seconds)).astype(np.float32)
    before = peak_memory_bytes()
    scorer.score_waveforms([waveform], sample_rate_hz=16000, k=k)
    after = peak_memory_bytes()
    mib = f"{after / 2**20:6.0f} MiB ({before / 2**20:.0f} at the start)"
    print(f"{seconds:5.1f} s, K = {k}, {memory}: {mib}")


if __name__ == "__main__":
    main()
