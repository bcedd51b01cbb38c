"""Recognizers: a CTC model, what its classes mean, and how a recording becomes its input.

``recognizer``   the type that all commands and ``Scorer`` take
``front_end``    from samples to a model's inputs
``classes``      a model's classes; ``vocabulary`` says how they become text
``spec``         what ``--model`` takes, a kind per file: ``checkpoint``, ``huggingface``, ``nemo``,
                 ``factory``
"""
