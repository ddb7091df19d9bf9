"""Options of ``vlray convert``."""

from __future__ import annotations

import textwrap
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vlray.config.formats import ALIASES, FORMATS, READ, WRITTEN
from vlray.config.images import ImagesSection
from vlray.settings.base import Command, Splits
from vlray.settings.section import Code


def _list_names() -> str:
    lines = (
        f"import formats, detected from the content: {', '.join(READ)}",
        f"export formats: {', '.join(WRITTEN)}; without --format, OUT.tsv is tsv10, OUT.h5 and "
        "OUT.hdf5 are hdf5, and any other OUT is npz",
        "vlray convert --formats lists the formats with the projects that read each",
    )
    return "\n".join(textwrap.fill(line, 80, subsequent_indent="  ") for line in lines)


class ConvertConfig(Command):
    """Import region files of other tools, or export to their formats."""

    command: ClassVar[str] = "convert"
    positionals: ClassVar[dict[str, str]] = {"SOURCE": "source", "OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "train2014_obj36.tsv regions/ --images coco/train2014",
        "trainval_resnet101_36.tsv regions/ --id-rule coco --images coco/train2014",
        "mmf_features/ regions/ --trust-pickle --sizes instances_train2014.json",
        "regions/ train2014_obj36.tsv",
        "regions/ features.h5 --split val",
        "regions/ coco_detections.hdf5 --format m2-hdf5",
    )
    notes: ClassVar[str] = _list_names()

    source: Annotated[str, Field(min_length=1)]
    """File or folder of region features to import, or an output of vlray to export."""

    output: Annotated[str, Field(min_length=1)]
    """Destination: a folder or URI for an import, a local file or folder for an export. Running the
    same command again resumes an unfinished conversion."""

    format: Code = ""
    """Format of the file: one of those below, or ``module:Class`` of your own reader. Empty:
    detected from the content of SOURCE for an import, from the name of OUT for an export.
    ``vlray convert --formats`` lists all of them."""

    trust_pickle: bool = False
    """Whether to open pickled files. Use it only for files from a source that you trust."""

    images: str = ""
    """Folder, list or URI of the photographs (the original images). The output then has their
    paths, for ``vlray view``, and their sizes, to rescale boxes in pixels of resized images."""

    sizes: str = ""
    """File with the sizes of the original images, for use without the photographs: COCO's JSON
    (``images`` with id, height, width), a CSV with these columns, or VinVL's ``hw.tsv``."""

    id_rule: str = "keep"
    """Rule that turns ids in the file into image ids. ``keep``: ids stay as they are, and match
    photographs by file name without extension. ``stem``, ``path``, ``coco`` or ``regex:PATTERN``:
    as in ``vlray extract``, applied to ids and file names."""

    labels: Splits = ()
    """Names of the object ids and the attribute ids: two text files, separated by a comma (one name
    per line, ids from 0), ``labels.json`` of an output, or VinVL's label map. Empty: the sidecar
    file of an export of vlray, else Visual Genome's names if the ids fit."""

    split: str = ""
    """Import: the split of all images; empty: the split of each photograph's folder, or ``all``.
    Export: only images of this split; empty: all images."""

    boxes: Literal["auto", "pixels", "normalized", "shorter-side"] = "auto"
    """Unit of the boxes: ``pixels``, ``normalized`` (fractions of width and height) or
    ``shorter-side`` (fractions of the shorter side, on both axes). ``auto`` detects pixels and
    normalized boxes, and stops at other fractions."""

    strict: bool = False
    """Whether an image with contradictory data becomes a failure instead of being flagged."""

    dtype: Literal["float16", "float32"] = "float16"
    """Precision of ``visual_feats`` in the output; exports are always float32."""

    on_changed: Literal["redo", "refuse"] = "redo"
    """What an import does if SOURCE has changed since OUT was made from it: import everything again
    (``redo``), or stop with an error (``refuse``)."""

    shard_size: Annotated[int, Field(ge=1)] = 128
    """Images per file of the output; a crash loses at most two unfinished files."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        if name and name not in FORMATS and name not in ALIASES and ":" not in name:
            raise ValueError(f"choose from {', '.join(FORMATS)}, or pass module:Class of a reader")
        return ALIASES.get(name, name)

    @field_validator("id_rule")
    @classmethod
    def _check_id_rule(cls, rule: str) -> str:
        if rule == "keep":
            return rule
        try:
            ImagesSection(root=".", id_rule=rule or "?")  # only extract allows an empty rule
        except ValueError:
            raise ValueError("choose keep, stem, path, key, coco or regex:PATTERN") from None
        return rule

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if len(paths) > 2:
            raise ValueError("pass two text files (objects, attributes), or one labels.json")
        return paths

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        if self.source == self.output:
            raise ValueError(
                f"SOURCE and OUT are both {self.source!r}; choose another name for OUT"
            )
        return self
