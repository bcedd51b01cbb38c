"""Which utterances to transcribe, given their scores and a budget.

    candidates   scored utterances, as strategies see them
    strategies   what makes one utterance more worth transcribing than another, a file each
    weights      of candidates, from their scores
    shares       an order in which groups of utterances get fair shares
    cost         what transcribing an utterance costs
    budget       how much may be spent
    gate         what is left out because it is unlike speech of the domain
    ranking      all of it together
    request      what is asked for, in plain values: ``select``
    scores       a scores file, with what is kept beside it

Nothing here imports torch.
"""

from egl_fast.selection.budget import Budget, parse_budget, within_budget
from egl_fast.selection.candidates import Candidates, Scored
from egl_fast.selection.low_mass import low_mass_warning
from egl_fast.selection.ranking import rank
from egl_fast.selection.request import select
from egl_fast.selection.scores import Scores

__all__ = [
    "Budget",
    "Candidates",
    "Scored",
    "Scores",
    "low_mass_warning",
    "parse_budget",
    "rank",
    "select",
    "within_budget",
]
