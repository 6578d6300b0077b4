"""What a run writes down: checkpoints, metrics, progress, and the files of its directory."""
