"""How fast a model is scored on this machine, and what bounds it.

``recordings`` says what is measured, ``contenders`` who takes part, ``turns`` how they take turns,
``product_rate`` and ``operation_count`` what the machine could do at best; ``measurement`` runs it
all, and ``results`` is what comes of it. benchmarks/ of the repository measures with the same.
"""
