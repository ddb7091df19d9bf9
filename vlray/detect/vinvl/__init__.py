"""VinVL's detector, a ResNeXt-152 C4 with an attribute head, and relatives of other sizes."""
