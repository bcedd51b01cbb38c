"""Inner products of gradients with millions of numbers."""

import torch

from egl_fast.gradients.contributions import inner_products


def test_products_of_millions_of_numbers_keep_their_digits() -> None:
    """To a tenth of what exact scoring promises. One float32 product of them is off by more."""
    torch.manual_seed(0)
    gradients = torch.rand(1, 3, 5_000_000)
    expected = gradients[0].double() @ gradients[0].double().t()
    found = inner_products([gradients], [gradients])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
