"""Training: it knows simulators, datasets and files, and no method."""
