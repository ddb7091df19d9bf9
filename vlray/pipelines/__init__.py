"""Several commands as the named steps of one file."""
