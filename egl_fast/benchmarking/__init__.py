"""How fast a model scores on this machine, and what limits it.

``recordings`` draws what is measured, ``comparison`` lists what scores it, ``interleaved`` times
that, and ``product_rate`` and ``operation_count`` say what the machine could do at best.
``measurement`` runs all of it, and ``results`` is what comes out. The benchmarks in benchmarks/
of the repository use the same parts.
"""
