"""Picks a set without exact scores: effort goes to recordings near the cut-off.

    looks     how closely a recording can be looked at, and what that costs
    beliefs   how far off each estimate may be, and how likely each recording belongs to the set
    plan      what to look at more closely
    rounds    repeats all this until the set is right or the effort is spent

Whether a recording is in or out of the top 20% is mostly clear from a rough estimate. Only
recordings near the cut-off are worth a better one, and only until few of them can still change
sides. Nothing here imports torch or computes scores: that is up to the caller. The outcome depends
only on the seed and on what the caller returns.
"""
