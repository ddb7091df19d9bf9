"""Settings of ``vlray extract``."""

from __future__ import annotations

from typing import ClassVar

from vlray.config.base import Command, Splits
from vlray.config.cluster import ClusterSection
from vlray.config.detector import DetectorSection
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection


class ExtractConfig(Command):
    """Detect the regions of images and write them as Parquet."""

    command: ClassVar[str] = "extract"
    positionals: ClassVar[dict[str, str]] = {
        "IMAGES": "images.root",
        "OUT": "output.path",
    }
    examples: ClassVar[tuple[str, ...]] = (
        "photos/ regions/",
        "photos/ regions/ --min-boxes 10 --max-boxes 100",
        "s3://bucket/coco s3://bucket/regions --split train,val --id-rule coco",
        "photos/ regions/ --config configs/extract/dgx.yaml",
    )

    split: Splits = ()
    """Splits to extract: one, several with commas between them, or repeated. Empty: every split
    that is found. Where there are no split folders, one name becomes the split of all images."""

    images: ImagesSection
    detector: DetectorSection = DetectorSection()
    output: OutputSection
    cluster: ClusterSection = ClusterSection()
