"""From recordings to score records, in three parts.

``formula``   search, rows, pull-back, record: functions of frozen values, nothing but Eq. 4
``schedule``  which utterances share a pass, and what happens where memory runs out
``run``       a pool from its recordings to a scores file that can be finished later

``options`` says what to compute, ``classes`` what a model's outputs stand for, ``arguments`` checks
what callers of ``Scorer`` hand over.
"""
