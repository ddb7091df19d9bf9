"""Flags: named observations that an import reports about single images."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

FLAGS = pa.schema([("image_id", pa.string()), ("flag", pa.string()), ("detail", pa.string())])
"""Columns of ``flags/part-*.parquet``."""


@dataclass(frozen=True)
class Flag:
    """One observation about one image; ``detail`` may be empty."""

    flag: str
    detail: str


class RowError(ValueError):
    """Raised if an image cannot be converted; the message becomes the reason for the failure."""


DOUBTS = {
    "boxes-outside": "boxes extend beyond the image by more than a pixel; they were clipped",
    "boxes-empty": "boxes have no area",
    "boxes-inverted": "corners of boxes are in the wrong order; they were swapped",
    "one-label": "nearly all regions have the same label: a crowd, or wrong input to the detector",
    "features-negative": "vectors have negative values, which pooled ReLU features never have",
    "features-clipped": "values exceed float16 and were clipped to 65,504; pass --dtype float32",
    "labels-unknown": "label ids have no name: wrong --labels, or ids that count from 1",
    "size-contradicts": "size in the file contradicts the photograph; the former was used",
}
"""Meaning of each flag for a doubtful row; with ``--strict``, such rows become failures."""

NOTES = {
    "size-order": "width and height are swapped in the file; boxes or photographs show it",
    "size-resized": "size in the file is the resized image's; the photograph's was used",
    "boxes-normalized": "boxes are fractions of the image; they were converted to pixels",
    "boxes-rescaled": "boxes are in pixels of the resized image; they were scaled to the original",
    "float-ids": "label ids are floats; they were converted to integers",
    "no-objects": "all object ids and scores are 0; treated as missing labels",
    "no-attributes": "all attribute ids and scores are 0; treated as missing labels",
    "photograph-missing": "--images has no photograph with this id",
    "photograph-unreadable": "the photograph cannot be opened, so its true size is unknown",
    # The flags below are reported by readers.
    "labels-need-trust-pickle": "labels are pickled and were not read; pass --trust-pickle",
    "transposed": "the feature matrix was transposed; it is now (regions, dimensions)",
    "ambiguous-orientation": "the feature matrix is square; read as (regions, dimensions)",
    "unaligned-attributes": "attributes belong to other regions; they were left out",
    "resized-size": "size in the file is the resized image's; pass --images or --sizes",
    "padded": "padding rows of zeros were dropped",
    "num-boxes-differs": "the box count differs from the number of rows; all rows were read",
    "background-first": "class 0 was the background; labels were recomputed without it",
    "other-vocabulary": "labels are not Visual Genome's classes; they were left out",
    "no-features": "the file has boxes but no vectors",
    "size-from-ratio": "the image size was computed from pixel and normalized boxes",
}
"""Meaning of each flag for a row that was corrected or is merely incomplete."""

MEANINGS = DOUBTS | NOTES
