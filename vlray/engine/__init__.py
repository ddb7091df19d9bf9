"""Training: the loop, its optimizers and checkpoints, alone or on the workers of Ray Train."""
