"""The fused operator's memory with a large vocabulary."""

from __future__ import annotations

import subprocess
import sys

LARGE = """
import resource, torch
from egl_fast import ops
from egl_fast.methods.exact import SPAN

T, C, K = 500, 5000, 100
generator = torch.Generator().manual_seed(0)
logits = torch.randn(1, T, C, generator=generator)
labels = torch.randint(1, C, (60,), generator=generator)
# A blank after each label, and a second choice at twelve places: what a beam is made of.
logits[0, :, 0] += 20.0
for u, label in enumerate(labels):
    logits[0, 8 * u + 4, 0] = 0.0
    logits[0, 8 * u + 4, label] = 20.0
    if u % 5 == 0:
        logits[0, 8 * u + 4, labels[u - 1]] = 19.0
lengths = torch.tensor([T])
hypotheses = ops.ctc_beam_search(logits.log_softmax(2), lengths, num_hypotheses=K)
assert int(hypotheses.counts) == K
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=K, span=SPAN)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_large_vocabulary_takes_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    # 20 to 30 rows of 500 x 5,000 numbers are 10 MB each, the softmax in double 20.
    assert int(done.stdout) * unit <= 500 * 2**20
