"""The paper's pairs by suite: ``--config=experiments/configs/FILE.py:STRING``."""
