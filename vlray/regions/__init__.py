"""Regions: boxes, features and labels of images, as arrays and as Parquet."""
