"""Squared gradient norms for many cotangents over one forward pass.

``engine`` runs a model once and remembers what every parametrised module saw (``tape``), pulls
R cotangents of the logits back to the outputs of those modules together, and turns input and
cotangent of each module into squared norms by a rule (``linear``, ``convolution``,
``normalization``, ``recurrent``; ``rules`` finds the one for a module). Parameters that no rule
covers get exact gradients from autograd. ``contributions`` holds the arithmetic.
"""
