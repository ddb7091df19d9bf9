"""The installation itself: versions, checks, Detectron2, configuration files."""
