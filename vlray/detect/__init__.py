"""Detectors: decoded images in, regions out. Only this package imports detectron2."""
