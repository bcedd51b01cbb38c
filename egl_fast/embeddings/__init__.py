"""A pool seen through its utterances' embeddings: what is typical, alike, or there twice.

An utterance's embedding is the input of the model's output layer, pooled over frames (``pooled``),
followed by the spectrum of its audio (``spectrum``). It costs next to nothing on top of a forward
pass, needs no training, and shows what a score of informativeness cannot: that a recording is not
speech of the domain (``typicality``), or that ten recordings say the same (``clusters``). Only
typicality uses the spectrum.
"""
