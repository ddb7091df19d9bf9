"""Detectors: decoded images in, regions out. The only importer of detectron2."""
