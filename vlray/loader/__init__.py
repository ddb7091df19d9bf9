"""Examples joined with the regions of their images, as batches for a model."""
