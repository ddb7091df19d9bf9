"""Detectron2's R-CNNs as detectors, from any of its configurations with a box head."""
