"""From an utterance's K cotangents to few, and from their squared norms to Eq. 4 and its error.

The gradient of a hypothesis is linear in its logits cotangent, g_k = J^T delta_k, so with columns
D = [sqrt(p_k) delta_k] the score is ||J^T D||_F^2, and any few combinations of the columns whose
squared norms add up to the same in expectation will do. ``docs/estimators.md`` has the derivations.
"""
