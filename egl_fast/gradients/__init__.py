"""Squared gradient norms for many cotangents over one forward pass.

``engine`` runs a model once and remembers what every parametrized module saw (``tape``), pulls
R cotangents of the logits back to the outputs of those modules together, and turns input and
cotangent of each module into squared norms by a rule (``rules``, a file for each kind of module).
Parameters that no rule covers get exact gradients from autograd. ``contributions`` holds the
arithmetic, ``room`` says how many cotangents go together.
"""
