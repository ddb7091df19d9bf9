"""Pipelines: several commands as the named steps of one YAML file."""
