"""The ways in which `experiments.collect` fills a directory with episodes."""
