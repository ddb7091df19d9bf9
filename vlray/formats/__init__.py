"""Import other tools' region files into vlray's table, and export the table to their formats."""
