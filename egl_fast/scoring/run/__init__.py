"""Scores a pool's recordings (``pool``) and saves them as they come (``resumable_scores``)."""
