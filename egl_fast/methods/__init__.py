"""Ways to compute an utterance's score from its K hypotheses' cotangents.

The gradient of a hypothesis is linear in its logits cotangent, g_k = J^T delta_k. So with columns
D = [sqrt(p_k) delta_k] the score is ||J^T D||_F^2, and it can be computed from fewer combinations
of the columns, if their squared norms have the same sum (in expectation). ``method`` says what a
method decides; each method is a file with its name. ``docs/estimators.md`` has the derivations.

Nothing here imports torch before it is used, so that ``--help`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

from egl_fast.methods.method import Method

#: What ``--method`` takes: the modules of this package that end in ``METHOD = ...``.
MethodName = Literal["exact", "lowrank", "probe", "none"]

METHODS: dict[str, type[Method]] = {
    name: import_module(f"{__name__}.{name}").METHOD for name in get_args(MethodName)
}
