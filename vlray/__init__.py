"""Region features for vision-and-language models at the scale of a Ray cluster."""
