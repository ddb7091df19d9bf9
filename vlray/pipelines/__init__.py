"""Pipelines: several commands, run as the named steps of one YAML file."""
