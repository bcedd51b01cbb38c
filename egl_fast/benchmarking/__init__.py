"""How fast a model scores on this machine, and what limits it.

``recordings`` draws what to measure, ``comparison`` lists what scores it, ``interleaved`` does the
timing, and ``product_rate`` and ``operation_count`` give the machine's best possible rate.
``measurement`` runs all of it, and ``results`` holds the results. The repository's benchmarks/ use
the same parts.
"""
