"""Occupancy without its zeros, against the dense form; and what a large vocabulary takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from random_ctc import as_hypotheses, random_logits
from torch import Tensor

from egl_fast import ops

BLANK = 2
LABELINGS = [(), (1,), (4, 4), (0, 1, 3), (3, 3, 3, 0, 0), (0,) * 7, (1, 3) * 6, (8, 1, 8)]


def dense(classes: Tensor, occupancy: Tensor, num_classes: int) -> Tensor:
    """[N, K, T, C] from sparse columns."""
    N, K, T, _ = occupancy.shape
    whole = occupancy.new_zeros(N, K, T, num_classes + 1)  # the last class for padding
    index = torch.where(classes < 0, num_classes, classes)[:, :, None].expand_as(occupancy)
    return whole.scatter_add(3, index, occupancy)[..., :num_classes]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_it_is_the_dense_occupancy(dtype: torch.dtype, scale: float) -> None:
    log_probs = random_logits(3, 3, 12, 9, scale=scale).log_softmax(-1).to(dtype)
    lengths = torch.tensor([12, 7, 0])
    hypotheses = as_hypotheses([LABELINGS, LABELINGS[:5], [()]])
    # Time last in memory: strides are the caller's.
    strided = log_probs.transpose(1, 2).contiguous().transpose(1, 2)
    log_prob, classes, occupancy = ops.ctc_sparse_occupancy(
        strided, lengths, hypotheses, blank=BLANK
    )
    expected_log_prob, expected = ops.ctc_occupancy(log_probs, lengths, hypotheses, blank=BLANK)
    assert torch.equal(log_prob, expected_log_prob)
    assert torch.equal(dense(classes, occupancy, 9), expected)
    for n, row in enumerate([LABELINGS, LABELINGS[:5], [()]]):
        for k, labels in enumerate(row):
            own = [BLANK, *sorted(set(labels))]
            assert classes[n, k].tolist() == own + [-1] * (classes.shape[2] - len(own))
    assert (classes[1, 5:] == -1).all()


def test_meta_tensors_and_schema() -> None:
    log_probs = random_logits(1, 2, 5, 6).log_softmax(-1)
    hypotheses = as_hypotheses([[(1,), (3, 4)], [()]])
    torch.library.opcheck(
        torch.ops.egl_fast.ctc_sparse_occupancy.default,
        (log_probs, torch.tensor([5, 3]), *hypotheses.as_arguments, 0),
    )


def test_wrong_arguments_are_named() -> None:
    log_probs = random_logits(1, 1, 5, 6).log_softmax(-1)
    lengths = torch.tensor([5])
    with pytest.raises(ValueError, match=r"labels: expected classes in \[0, 6\) other than blank"):
        ops.ctc_sparse_occupancy(log_probs, lengths, as_hypotheses([[(0,)]]))
    log_probs[0, 2, 3] = torch.nan
    with pytest.raises(
        ValueError, match="log_probs: expected natural logarithms of probabilities, got nan"
    ):
        ops.ctc_sparse_occupancy(log_probs, lengths, as_hypotheses([[(1,)]]))


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
log_probs = logits.log_softmax(2)
hypotheses = ops.ctc_beam_search(log_probs, lengths, num_hypotheses=K)
assert int(hypotheses.counts) == K
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
WORK
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("work", "most_mib"),
    [
        ("ops.ctc_sparse_occupancy(log_probs, lengths, hypotheses)", 100),
        # Its 20 to 30 rows of 500 x 5,000 numbers are 10 MB each, the softmax in double 20.
        ("ops.ctc_nbest_cotangents(logits, lengths, num_hypotheses=K, span=SPAN)", 500),
    ],
)
def test_a_large_vocabulary_takes_little_memory(work: str, most_mib: int) -> None:
    script = LARGE.replace("WORK", work)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    assert int(done.stdout) * unit <= most_mib * 2**20
