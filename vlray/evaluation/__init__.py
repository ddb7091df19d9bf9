"""Test a trained model: predictions, metrics with intervals, submission files, a page."""
