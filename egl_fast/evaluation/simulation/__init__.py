"""The active-learning evaluation: base model, pool, queries, retraining, tables.

A simulation is a graph of *units* of work (``units``): pretraining, base training, scoring, query
training. Each has a folder named by a hash of all that determines its result, so that equal work
is done once, a killed run goes on where it was, and several processes share one run. ``plan``
says which units a configuration (``config``) asks for as far as is known yet, ``work`` does them,
``tables`` makes the results out of them.
"""
