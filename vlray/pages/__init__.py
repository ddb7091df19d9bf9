"""The kit for HTML pages."""
