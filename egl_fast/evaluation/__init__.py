"""The active-learning evaluation and its report; nothing that scores imports it.

``simulation`` runs the evaluation, ``reporting`` turns its files, or those of a scored pool, into a
page, and ``statistics`` holds the numerical methods that reports use.
"""
