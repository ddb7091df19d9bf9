"""Regions of images (boxes, features and labels), as arrays and as Parquet files."""

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output

__all__ = ["RegionBatch", "RegionOutput", "open_output"]
