"""A pool seen through its utterances' embeddings: what is typical, what is alike, what is doubled.

An utterance's embedding is what the model's output layer sees of it, pooled over frames
(``pooled``), followed by the spectrum of its audio (``spectrum``). It costs next to nothing beside
a forward pass, needs no training, and tells what a score of informativeness cannot: that a
recording is not speech of the domain (``typicality``), or that ten recordings say the same
(``clusters``). Only typicality looks at the spectrum.
"""
