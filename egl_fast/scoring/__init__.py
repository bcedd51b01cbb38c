"""Turns recordings into score records, in three parts.

``formula``   search, rows, pull-back, record: functions of frozen values, nothing but Eq. 4
``schedule``  which utterances share a pass, and what happens when memory runs out
``run``       a pool from its recordings to a scores file that can be finished later

All three take a ``task``: a model's engine, its ``classes`` and the ``options``. ``arguments``
checks what callers of ``Scorer`` pass.
"""
