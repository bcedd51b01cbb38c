"""One file per kind of module; importing it registers its rules. See docs/add-a-layer.md."""

from egl_fast.gradients.rules import (  # noqa: F401
    convolution,
    embedding,
    linear,
    normalization,
    prelu,
    product,
    transposed_convolution,
)
