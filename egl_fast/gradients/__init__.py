"""Squared gradient norms for many cotangents over one forward pass.

``engine`` runs a model once and records the input of each module with parameters (``tape``), pulls
R cotangents of the logits back to the outputs of these modules together, and turns each module's
input and cotangent into squared norms by a rule (``rules``, one file per kind of module).
Parameters without a rule get exact gradients from autograd. ``contributions`` has the arithmetic,
``memory`` decides how many cotangents share a pass.
"""
