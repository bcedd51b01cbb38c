"""Which utterances to transcribe, given their scores and a budget.

    candidates   scored utterances, as strategies see them
    strategies   what makes one utterance more worth transcribing than another, a file each
    weights      of candidates, from their scores
    shares       an order in which groups of utterances get fair shares
    cost         what transcribing an utterance costs
    budget       how much may be spent
    ranking      all of it together: ``select``

Nothing here imports torch.
"""

from egl_fast.selection.budget import Budget, parse_budget, within_budget
from egl_fast.selection.candidates import Candidates, Scored
from egl_fast.selection.low_mass import low_mass_warning
from egl_fast.selection.ranking import rank, select

__all__ = [
    "Budget",
    "Candidates",
    "Scored",
    "low_mass_warning",
    "parse_budget",
    "rank",
    "select",
    "within_budget",
]
