"""Readers of other tools' region files, one module for each layout."""
