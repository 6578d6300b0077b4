"""Commands: each module here is run with ``python -m experiments.<name>``."""
