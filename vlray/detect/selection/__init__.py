"""Which of an image's proposals become its regions: suppression and selection rules."""
