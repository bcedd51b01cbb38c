"""Recurrent layers as one scan per direction, with backward through time in one call.

torch unrolls a recurrent layer into a graph node per operation and frame, and sums a weight
gradient per frame. Here a direction of a layer is two nodes: the input projection, one matrix
product over all frames, and the scan over time, whose backward pass returns the cotangents of all
gates at all frames. From these, a weight gradient is one matrix product (training), and its squared
norm does not need the gradient at all (``gradients``).

Shapes: T frames, N utterances, I inputs, H hidden units, G gates; time comes first.
"""

from egl_fast.recurrent.substitution import Direction, scanned_recurrence, without_cudnn

__all__ = ["Direction", "scanned_recurrence", "without_cudnn"]
