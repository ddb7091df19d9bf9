"""Settings of ``vlray extract``."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from vlray.config.cluster import ClusterSection
from vlray.config.data import ImageSetsSection
from vlray.config.detector import DetectorSection
from vlray.config.images import ImagesSection
from vlray.config.output import OutputSection
from vlray.settings.base import Command, Splits


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
        "coco regions/ --split train --data.images coco=/data/coco",
        "photos/ regions/ --boxes instances_val2017.json --id-rule coco",
        "photos/ regions/ --features none",
        "photos/ grids/ --name vg-caffe --weights FILE --features grid",
        "photos/ regions/ --config configs/extract/dgx.yaml",
    )

    split: Splits = ()
    """Splits to extract: one, several with commas between them, or repeated. Empty: every split
    that is found. Where there are no split folders, one name becomes the split of all images."""

    boxes: str = ""
    """Boxes to pool, instead of the detector's own: features, classes and attributes of exactly
    these, in their order; nothing is selected. Parquet, CSV, TSV or JSON lines with image_id and
    either x1, y1, x2, y2 (a row for each box) or boxes (a list for each image), in pixels of the
    original image, turned as its EXIF says; COCO's JSON (its file names become ids by the id rule,
    its bbox is x, y, w, h); or an output of vlray. ``vg-caffe`` writes the very boxes that it
    pooled, so an output's own boxes give its features again. The others move boxes after pooling
    them: there the same boxes give other features than their rows have."""

    images: ImagesSection
    data: ImageSetsSection = ImageSetsSection()
    detector: DetectorSection = DetectorSection()
    output: OutputSection
    cluster: ClusterSection = ClusterSection()

    @model_validator(mode="after")
    def _check_boxes(self) -> Self:
        if self.boxes and self.detector.features == "grid":
            raise ValueError(
                "boxes are given, but with detector.features=grid an image's regions are the cells "
                "of a grid; give one of the two"
            )
        return self
