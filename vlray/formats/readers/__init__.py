"""Readers for other tools' region files, one module per layout."""
