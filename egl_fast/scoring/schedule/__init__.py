"""Which utterances share passes, and what happens when memory runs out."""
