"""Two outputs of the same images beside each other."""
