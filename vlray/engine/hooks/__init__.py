"""Hooks: extensions of the training loop that keep their own state."""
