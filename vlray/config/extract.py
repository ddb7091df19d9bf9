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
    """Detect the regions of images and write them to Parquet files."""

    command: ClassVar[str] = "extract"
    positionals: ClassVar[dict[str, str]] = {
        "IMAGES": "images.root",
        "OUT": "output.path",
    }
    common: ClassVar[tuple[str, ...]] = (
        "split",
        "boxes",
        "images.id_rule",
        "detector.name",
        "detector.weights",
        "detector.max_boxes",
        "detector.score_thresh",
        "detector.features",
        "output.retry_failures",
        "cluster.actors",
    )
    examples: ClassVar[tuple[str, ...]] = (
        "photos/ regions/",
        "photos/ regions/ --min-boxes 10 --max-boxes 100",
        "s3://bucket/coco s3://bucket/regions --split train,val --id-rule coco",
        "coco regions/ --split train --data.images coco=/data/coco",
        "photos/ regions/ --boxes instances_val2017.json --id-rule coco",
        "'shards/{000000..000123}.tar' regions/ --features none",
        "photos/ grids/ --name vg-caffe --weights FILE --features grid",
        "photos/ regions/ --config configs/extract/dgx.yaml",
    )

    split: Splits = ()
    """Splits to extract, separated by commas, or the flag repeated. Empty: all splits. If the
    images are not in split folders, give one name, which becomes the split of all images."""

    boxes: str = ""
    """File of boxes to use instead of detecting boxes. The output has features, classes and
    attributes of exactly these boxes, in their order. Formats: Parquet, CSV, TSV or JSON lines with
    image_id and x1, y1, x2, y2 (a row per box) or boxes (a list per image); COCO JSON, whose file
    names become ids by ``images.id_rule`` and whose bbox is x, y, width, height; an output of
    vlray. Coordinates are pixels of the original image after EXIF rotation. With ``vg-caffe``, the
    boxes of an output reproduce its features. Other detectors refine boxes after pooling, so the
    features of their refined boxes differ."""

    # No default: IMAGES and OUT are required.
    images: ImagesSection
    data: ImageSetsSection = ImageSetsSection()
    detector: DetectorSection = DetectorSection()
    output: OutputSection
    cluster: ClusterSection = ClusterSection()

    @model_validator(mode="after")
    def _check_boxes(self) -> Self:
        if self.boxes and self.detector.features == "grid":
            raise ValueError(
                "boxes and detector.features=grid exclude each other, because grid features "
                "belong to grid cells; set only one of them"
            )
        return self
