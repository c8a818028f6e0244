"""Training: the loop, optimizer and schedule, checkpoints, logs, the collapse monitor, held-out scores."""
