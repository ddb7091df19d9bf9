"""maskrcnn-benchmark's Faster R-CNNs with a feature pyramid: the fc6 features of MMF."""
