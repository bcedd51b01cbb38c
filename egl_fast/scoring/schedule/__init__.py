"""Which utterances share passes (``batches``, ``sharing``), and in how much memory."""
