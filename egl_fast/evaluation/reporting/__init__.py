"""From the files of an evaluation, a scored pool, or a selection to one page that opens anywhere.

Files are read (``run_folder``, ``scores_file``); numbers are made of them (``evaluation``,
``ranking``, ``picked``), and sentences of the numbers (``findings``, ``pool_findings``). There are
three kinds of page, of an evaluation (``run_page``), a scored pool (``pool_page``), and a selection
(``selection_page``); each puts these together as a ``page_model``, which ``render`` writes with
what is in ``page/``. ``figures`` draws for papers. Nothing here loads a model.
"""
