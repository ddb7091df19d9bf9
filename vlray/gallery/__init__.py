"""Pictures of an output: annotated images and one self-contained page."""
