"""The extraction pipeline on Ray Data: list, decode, detect, write, resume."""
