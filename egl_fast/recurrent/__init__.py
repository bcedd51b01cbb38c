"""Recurrent layers as one scan a direction, with backward through time in one call.

torch unrolls a recurrent layer into a graph node an operation and frame, and adds up a weight
gradient a frame. Here a direction of a layer is two nodes: the input projection, one matrix
product over all frames, and the scan over time, whose backward pass yields the cotangent of
every gate at every frame. With gate cotangents at hand, a weight gradient is one matrix product
(training), and its squared norm needs no gradient at all (``gradients``).

Shapes: T frames, N utterances, I inputs, H hidden units, G gates; time comes first.
"""

from egl_fast.recurrent.substitution import Direction, scanned_recurrence, without_cudnn

__all__ = ["Direction", "scanned_recurrence", "without_cudnn"]
