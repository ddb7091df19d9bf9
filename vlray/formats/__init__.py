"""Import other tools' region files into a vlray output, or export an output to their formats."""
