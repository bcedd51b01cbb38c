"""Depthwise correlation, the operator; csrc/test has its formula for every instruction set."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from egl_fast.compute.depthwise import depthwise_correlation


def test_rows_are_torchs_convolution_for_any_strides_of_memory() -> None:
    torch.manual_seed(0)
    x, taps = torch.randn(40, 3, 2).permute(2, 1, 0), torch.randn(5, 3).t()  # [2, 3, 40]
    expected = F.conv1d(x, taps[:, None], padding=4, dilation=2, stride=3, groups=3)
    got = depthwise_correlation(x, taps[None], padding=(4, 4), dilation=2, stride=3)
    torch.testing.assert_close(got, expected)


def test_sums_over_long_recordings_keep_their_digits() -> None:
    """The gradient of a kernel over half an hour of silence: in one run it is off by 8e-4."""
    num_frames = 100_000
    x, cotangents = torch.full((1, 1, num_frames + 2), 0.3), torch.full((5, 1, num_frames), 0.1)
    found = depthwise_correlation(x, cotangents)
    expected = depthwise_correlation(x.double(), cotangents.double())
    # Each of the additions that a term passes through costs at most half an epsilon.
    bound = (512 + num_frames / 512) * torch.finfo(torch.float32).eps / 2
    torch.testing.assert_close(found.double(), expected, rtol=bound, atol=0)


def test_operator_is_registered_soundly() -> None:
    operator = torch.ops.egl_fast.depthwise_correlation.default
    torch.library.opcheck(operator, (torch.ones(2, 3, 9), torch.ones(1, 3, 4), 1, 2, 2, 1))
    torch.library.opcheck(operator, (torch.ones(1, 3, 9), torch.ones(5, 3, 4), 0, -1, 1, 2))


@pytest.mark.parametrize(
    ("x", "taps", "options", "message"),
    [
        (torch.ones(2, 3, 9), torch.ones(2, 3, 4), {}, "expected M=1 or N=1, got M=2 and N=2"),
        (torch.ones(1, 3, 9), torch.ones(1, 2, 4), {}, r"taps: expected float32 \[M, C=3, K\]"),
        (torch.ones(1, 3, 9), torch.ones(1, 3, 4).double(), {}, "taps: expected float32"),
        (torch.ones(1, 3, 9).half(), torch.ones(1, 3, 4).half(), {}, "x: expected float32 or"),
        (torch.ones(1, 3, 9), torch.ones(1, 3, 0), {}, "K of at least 1"),
        (torch.ones(1, 3, 9), torch.ones(1, 3, 4), {"stride": 0}, "stride: expected at least 1"),
        (torch.ones(1, 3, 9), torch.ones(1, 3, 4), {"dilation": 4}, "at least 4 more frames"),
        (torch.ones(1, 3, 9), torch.ones(1, 3, 4), {"dilation": 2**62}, r"dilation: .* 2\^48"),
    ],
)
def test_bad_arguments_are_one_line(
    x: torch.Tensor, taps: torch.Tensor, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        depthwise_correlation(x, taps, **options)  # type: ignore[arg-type]
