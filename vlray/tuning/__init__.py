"""Searches the options of an extraction or a training: Ray Tune, and proposals that are kept."""
