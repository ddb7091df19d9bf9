"""Hyperparameter search for extraction and training, with Ray Tune and stored proposals."""
