"""Model training: the loop, optimizers and checkpoints, in one process or on Ray Train workers."""
