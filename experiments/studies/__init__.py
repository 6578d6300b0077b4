"""Studies: a file for each of the paper's tables and figures with results, and for our questions.

`experiments.study` plans, runs and reports them. A file says what a study asks, what it compares,
on which pairs, with how many seeds, and which result counts as negative. It is written before the
first run. What was found is added after the runs.
"""
