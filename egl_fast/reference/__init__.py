"""Slow and obvious twins of the fast paths, for tests and ``egl-fast doctor`` only.

They import torch and the standard library, nothing of egl_fast, and are never a fallback.
"""

#: Largest allowed relative error of a fast squared norm, by the precision it was computed in.
#: ``gradients.looped_sq_norms`` in float64 is the truth (DESIGN.md, section 5).
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
