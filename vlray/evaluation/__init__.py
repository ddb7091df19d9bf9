"""Test a trained model: predictions, metrics with intervals, submission files, and an HTML page."""
