"""A pool's recordings to outcomes (``pool``), kept as they come (``resumable_scores``)."""
