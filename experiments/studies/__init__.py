"""Studies: a file for each table of returns, for most figures, and for our own questions.

`experiments.study` plans, runs and reports them. A file says what a study asks, what it compares,
on which pairs, with how many seeds, and which result would refute the claim. It is written before
the first run.
"""
