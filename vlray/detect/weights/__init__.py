"""Weights files: download, headers, checks."""
