"""What a conversion noticed about an image: how it is called, and what it means."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

FLAGS = pa.schema([("image_id", pa.string()), ("flag", pa.string()), ("detail", pa.string())])
"""Columns of ``flags/part-*.parquet``."""


@dataclass(frozen=True)
class Flag:
    """One thing that was noticed about one image."""

    flag: str
    detail: str


class RowError(ValueError):
    """An image cannot become a row; it becomes a failure with this reason."""


DOUBTS = {
    "boxes-outside": "boxes leave the image by more than a pixel; they were clipped to it",
    "boxes-empty": "boxes have no area",
    "boxes-inverted": "boxes have their corners in another order; they were put right",
    "one-label": "nearly all regions have one label: a crowd, or a detector that was fed wrongly",
    "features-negative": "vectors have negative values, which pooled ReLU features cannot",
    "features-clipped": "vectors have values beyond float16, clipped to 65,504; --dtype float32",
    "labels-unknown": "label ids have no name: other --labels, or ids counted from 1?",
    "size-contradicts": "the file's size is not the photograph's, nor a resized one's; it was kept",
}
"""Signs that a row contradicts itself; ``--strict`` turns them into failures."""

NOTES = {
    "size-order": "width and height are in the other order; taken as the boxes or photographs say",
    "size-resized": "the file's size is that of the resized image",
    "boxes-normalized": "boxes are fractions of the image; they were multiplied by its size",
    "boxes-rescaled": "boxes are in pixels of the resized image; they were scaled to the original",
    "float-ids": "label ids are floats; they became integers",
    "no-objects": "all object ids and scores are 0: taken as no object labels",
    "no-attributes": "all attribute ids and scores are 0: taken as no attribute labels",
    "photograph-missing": "there is no photograph of this id in --images",
    "photograph-unreadable": "the photograph cannot be opened, so its true size is not known",
    # What only a reader can see.
    "labels-need-trust-pickle": "labels are in the file, but pickled; --trust-pickle reads them",
    "transposed": "vectors lay crosswise; they were turned",
    "ambiguous-orientation": "as many regions as vectors are long; taken as regions by values",
    "unaligned-attributes": "attributes are those of other regions; they were left out",
    "resized-size": "the file's size is the resized image's; --images or --sizes know the true one",
    "padded": "rows of zeros that only fill up were dropped",
    "num-boxes-differs": "the file's count is not its number of rows; all rows were kept",
    "background-first": "class 0 was background; labels were taken again without it",
    "other-vocabulary": "labels are of other words than Visual Genome's; they were left out",
    "no-features": "the file has boxes but no vectors",
    "size-from-ratio": "the image's size was computed from boxes and their fractions",
}
"""What was mended, or is as it is."""

MEANINGS = DOUBTS | NOTES
