"""The runs of a project and their logs."""
