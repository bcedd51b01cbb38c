"""From a pool's recordings to outcomes (``pool``), saved as they come (``resumable_scores``)."""
