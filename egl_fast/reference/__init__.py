"""Slow and obvious twins of the fast paths, for tests and ``egl-fast doctor`` only.

They import torch and the standard library, nothing of egl_fast, and are never a fallback.
"""
