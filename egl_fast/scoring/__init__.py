"""From a model's outputs to score records, and which utterances share the work.

``pipeline`` is the method, top to bottom; ``batches`` runs it over many utterances.
"""
