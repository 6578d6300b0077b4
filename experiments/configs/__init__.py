"""Configuration files, one per suite, for ``--config=experiments/configs/FILE.py:PRESET``."""
