"""Training runs: devices, the loop, checkpoints, resume points."""
