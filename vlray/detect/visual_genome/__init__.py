"""The Visual Genome Faster R-CNN of bottom-up attention, as published in two conventions."""
