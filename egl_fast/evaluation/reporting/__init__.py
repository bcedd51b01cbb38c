"""From the files of an evaluation, or of a scored pool, to one page that opens anywhere.

Files are read (``run_folder``, ``scores_file``); numbers are made of them (``evaluation``,
``ranking``, ``picked``), and sentences of the numbers (``findings``, ``pool_findings``);
``content`` puts them together as a ``page_model``, which ``render`` writes with what is in
``page/``. ``figures`` draws for papers. Nothing here loads a model.
"""
