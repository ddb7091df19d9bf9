"""Region features in the files that others made: read into vlray's table, and written from it."""
