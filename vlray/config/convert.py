"""Settings of ``vlray convert``, and the forms of files that it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vlray.config.images import ImagesSection
from vlray.settings.base import Command, Splits


@dataclass(frozen=True)
class Form:
    """A form of region files: who reads it (``module:Class``), and what it is."""

    reader: str
    about: str


FORMATS = {
    "tsv10": Form("vlray.formats.readers.tsv:Tsv10Reader", "LXMERT's TSV of ten columns, base64"),
    "tsv6": Form(
        "vlray.formats.readers.tsv:Tsv6Reader", "the original TSV of six columns, no labels"
    ),
    "vinvl": Form(
        "vlray.formats.readers.vinvl:VinvlReader", "VinVL's predictions.tsv, Oscar's feature.tsv"
    ),
    "npz": Form("vlray.formats.readers.npz:NpzReader", "one .npz an image: MILVLG, MCAN, openvqa"),
    "npy": Form("vlray.formats.readers.npy:NpyReader", "MMF's X.npy and X_info.npy (pickled)"),
    "lmdb": Form(
        "vlray.formats.readers.lmdb_file:LmdbReader", "LMDB of MMF, VOLTA, ViLBERT (pickled)"
    ),
    "hdf5": Form("vlray.formats.readers.hdf5:Hdf5Reader", "VOLTA's HDF5, a group per image"),
    "hdf5-butd": Form(
        "vlray.formats.readers.hdf5:Hdf5RowsReader",
        "HDF5 rows of BUTD-VQA and BAN (ids are pickled)",
    ),
    "arrow-hf": Form(
        "vlray.formats.readers.arrow_stream:HfArrowReader",
        "Arrow stream of Hugging Face's LXMERT demo",
    ),
    "arrow-vltk": Form(
        "vlray.formats.readers.arrow_stream:VltkArrowReader", "Arrow stream of vltk"
    ),
}
"""What can be read, in the order in which a file's content is tried."""

EXPORTS = {
    "tsv10": "OUT.tsv",
    "hdf5": "OUT.h5 or OUT.hdf5",
    "npz": "any other OUT, a folder",
}
"""What can be written, and the name of OUT that asks for it."""


def _forms() -> str:
    lines = [f"  {name:11} {form.about}" for name, form in FORMATS.items()]
    exports = [f"  {name:11} {where}" for name, where in EXPORTS.items()]
    return "\n".join(["forms that are read, told by content:", *lines, "written:", *exports])


class ConvertConfig(Command):
    """Bring other tools' region files into an output, and an output into theirs."""

    command: ClassVar[str] = "convert"
    positionals: ClassVar[dict[str, str]] = {"SOURCE": "source", "OUT": "output"}
    examples: ClassVar[tuple[str, ...]] = (
        "train2014_obj36.tsv regions/ --images coco/train2014",
        "trainval_resnet101_36.tsv regions/ --id-rule coco --images coco/train2014",
        "mmf_features/ regions/ --trust-pickle --sizes instances_train2014.json",
        "regions/ train2014_obj36.tsv",
        "regions/ features.h5 --split val",
    )
    notes: ClassVar[str] = _forms()

    source: Annotated[str, Field(min_length=1)]
    """File or folder of region features; or an output of vlray, which is exported."""

    output: Annotated[str, Field(min_length=1)]
    """Where the result goes: a folder or URI for an import, a local file or folder for an export.
    The same command on what is there already finishes it."""

    format: str = ""
    """Form of the file: one of those below, or ``module:Class`` of a reader of yours. Empty: told
    by the content; of an export, by the name of OUT."""

    trust_pickle: bool = False
    """Whether pickled files are opened. Only for files from people you trust."""

    images: str = ""
    """Folder, list or URI of the photographs. With them the output knows their paths and true
    sizes, so that ``vlray view`` can draw and boxes in pixels of a resized image are put right."""

    sizes: str = ""
    """True sizes of the images where the photographs are not at hand: COCO's JSON (``images``
    with id, height, width), a CSV with these columns, or VinVL's ``hw.tsv``."""

    id_rule: str = "keep"
    """How the file's ids become image ids, and which photographs they name: ``keep`` (as they are;
    a photograph's is its name without extension), or ``stem``, ``path``, ``coco`` and
    ``regex:PATTERN`` as in ``vlray extract``, on both sides."""

    labels: Splits = ()
    """Names of the object ids, and of the attribute ids: two text files with commas between them
    (one name per line, counted from 0), or one ``labels.json`` of an output. Empty: those beside a
    file that vlray wrote; Visual Genome's where the ids fit."""

    split: str = ""
    """Import: the split of all images; empty: that of the photographs' folder, or ``all``. Export:
    only images of this split."""

    boxes: Literal["auto", "pixels", "normalized", "shorter-side"] = "auto"
    """Unit of the file's boxes: ``normalized`` are fractions of the image, ``shorter-side`` of its
    shorter side on both axes; ``auto``: they tell, or are refused where they are of neither."""

    strict: bool = False
    """Whether an image whose row contradicts itself becomes a failure instead of being flagged."""

    dtype: Literal["float16", "float32"] = "float16"
    """Precision of ``visual_feats`` in the output; exports hold float32."""

    on_changed: Literal["redo", "refuse"] = "redo"
    """What an import does where SOURCE has changed since OUT was made of it: everything is made
    again, or the run ends before it begins."""

    shard_size: Annotated[int, Field(ge=1)] = 128
    """Images per file of the output, which is also what a crash loses at most."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, name: str) -> str:
        if name and name not in FORMATS and ":" not in name:
            raise ValueError(f"give one of {', '.join(FORMATS)}, or module:Class of a reader")
        return name

    @field_validator("id_rule")
    @classmethod
    def _check_id_rule(cls, rule: str) -> str:
        if rule == "keep":
            return rule
        try:
            ImagesSection(root=".", id_rule=rule or "?")  # empty means something in extract alone
        except ValueError:
            raise ValueError("give keep, stem, path, coco or regex:PATTERN") from None
        return rule

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if len(paths) > 2:
            raise ValueError("give objects and attributes, so two files, or one labels.json")
        return paths

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        if self.source == self.output:
            raise ValueError(f"SOURCE and OUT are both {self.source!r}; give OUT another name")
        return self
