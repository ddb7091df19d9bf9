"""Sources of images: what a listing reads, a module for each kind."""
