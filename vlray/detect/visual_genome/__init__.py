"""The Visual Genome Faster R-CNN of bottom-up attention, under two sets of conventions."""
