"""Two outputs of the same images, box by box."""
