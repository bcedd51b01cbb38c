"""Statistics of active-learning evaluations: pure functions of numpy arrays, no files, no torch."""
