"""From the files of an evaluation, or of a scored pool, to one page that opens anywhere.

Files are read (``run_folder``, ``scores_file``, ``score_records``), numbers are made of them
(``evaluation``, ``ranking``, ``picked``), sentences of the numbers (``findings``), and last a page
(``page``) or figures for a paper (``figures``). Nothing here loads a model.
"""
