"""Regions: boxes, features and labels of images, as arrays and as Parquet."""

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output

__all__ = ["RegionBatch", "RegionOutput", "open_output"]
