"""One training run: devices, the loop, checkpoints, resume points."""
