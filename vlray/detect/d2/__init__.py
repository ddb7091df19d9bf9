"""Detectron2's R-CNNs as detectors, for any of its configurations that have a box head."""
