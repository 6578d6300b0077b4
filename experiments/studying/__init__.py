"""What the command `experiments.study` is made of; the studies themselves are in `studies/`."""
