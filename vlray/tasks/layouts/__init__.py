"""Layouts for official annotation files; each module reads one family of files."""
