"""Layouts of official annotation files; each module reads one family of files."""
