"""Region features in the files of other tools: read and written as streams."""
