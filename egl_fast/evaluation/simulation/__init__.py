"""The active-learning evaluation: base model, pool, queries, retraining, tables.

A simulation is a graph of *units* of work (``units``): pretraining, base training, scoring, query
training. Each has a folder (``store``) named by a hash of all that determines its result, so that
equal work is done once, a killed run can be resumed, and several processes can share a run.
``plan`` says which units a configuration (``config``) needs, as far as that is known yet, and uses
``picking`` to turn scores and a way of choosing (``choices``) into picks. ``work`` does the units,
and ``tables`` writes the results.
"""
