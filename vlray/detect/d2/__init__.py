"""Detectors of Detectron2: any configuration of its own R-CNNs."""
