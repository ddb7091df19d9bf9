"""Settings of ``vlray datasets``."""

from __future__ import annotations

from typing import ClassVar, Literal

from vlray.config.data import DataSection
from vlray.settings.base import ActionHelp, Command, Splits


class DatasetsConfig(Command):
    """List the vision-language datasets, check their files, add your own, score predictions."""

    command: ClassVar[str] = "datasets"
    positionals: ClassVar[dict[str, str]] = {"ACTION": "action", "NAME": "name", "WHAT": "what"}
    examples: ClassVar[tuple[str, ...]] = (
        "list --purpose grounding",
        "show vqa",
        "check vqa:train --regions regions/",
        "check nlvr2 --split dev,test1 --data.annotations nlvr2=/data/nlvr2",
        "add my-dataset.yaml",
        "add path/to/file.py:MyDataset",
        "corpus all-questions vqa:train,gqa:train --project lxmert",
        "score nlvr2:dev predictions.csv",
    )
    notes: ClassVar[str] = """\
where vlray looks for the files:
  vlray looks for the annotation files of vqa in DATA_DIR/vqa, and for the images of its image set
  coco in DATA_DIR/coco, under their official names. To use other folders, set them once:
    python -m vlray.env set data.annotations.vqa /data/vqa
    python -m vlray.env set data.images.coco s3://bucket/coco

your own dataset:
  python -m vlray.datasets show vqa --spec > mine.yaml    then edit the name, files and splits
  python -m vlray.datasets add mine.yaml"""

    actions: ClassVar[dict[str, ActionHelp]] = {
        "list": ActionHelp(
            usage="vlray datasets list [options]",
            description="List the datasets of the catalogue, and the corpora of the project.",
            options=("purpose", "data.root", "data.annotations", "data.images", "project"),
            examples=("list", "list --purpose grounding"),
        ),
        "show": ActionHelp(
            usage="vlray datasets show DATASET[:SPLIT] | CORPUS [options]",
            description="Describe a dataset: splits, files, labels, metric, source and licence.",
            options=("spec", "data.annotations", "data.images", "data.root"),
            examples=("show vqa", "show vqa:minival", "show vqa --spec > mine.yaml"),
        ),
        "check": ActionHelp(
            usage="vlray datasets check DATASET[:SPLIT] | CORPUS [options]",
            description=(
                "Read the files of each split, and report missing files, the number of examples, "
                "and their problems. Exit status 1 if something is missing or broken."
            ),
            options=("split", "regions", "data.annotations", "data.images", "data.root"),
            examples=(
                "check vqa:train --regions regions/",
                "check nlvr2 --split dev,test1 --data.annotations nlvr2=/data/nlvr2",
            ),
        ),
        "add": ActionHelp(
            usage="vlray datasets add FILE.yaml | module:Class | file.py:Class",
            description="Add your own dataset to the catalogue. All commands then accept its name.",
            options=("trust_code", "data.annotations", "data.images"),
            examples=("add my-dataset.yaml", "add path/to/file.py:MyDataset"),
        ),
        "remove": ActionHelp(
            usage="vlray datasets remove NAME",
            description="Remove your own dataset from the catalogue. Its files stay.",
            options=(),
            examples=("remove my-dataset",),
        ),
        "corpus": ActionHelp(
            usage="vlray datasets corpus NAME PART,... [options]",
            description=(
                "Save several splits under one name, which train, show and check accept. A part "
                "is DATASET:SPLIT, DATASET:SPLIT=WEIGHT or DATASET:SPLIT=WEIGHT@REGIONS."
            ),
            options=("mix", "project"),
            examples=("corpus all-questions vqa:train,gqa:train --project lxmert",),
        ),
        "score": ActionHelp(
            usage="vlray datasets score DATASET:SPLIT FILE [options]",
            description="Compute the metric of a dataset for a file of predictions.",
            options=("data.annotations", "data.root", "data.on_bad"),
            examples=("score nlvr2:dev predictions.csv",),
        ),
    }

    action: Literal["list", "show", "check", "add", "remove", "corpus", "score"] = "list"
    """``list``: list the catalogue. ``show NAME``: describe a dataset. ``check NAME``: report its
    files, the number of examples and their problems; exit status 1 if something is missing.
    ``add WHAT``, ``remove NAME``: add or remove your own dataset. ``corpus NAME PARTS``: save
    several splits under one name. ``score NAME:SPLIT FILE``: score predictions."""

    name: str = ""
    """A dataset, or ``dataset:split``. For ``add``: a YAML file, ``module:Class`` or
    ``file.py:Class``. For ``corpus``: the name of the corpus, which ``show`` and ``check`` accept
    as well."""

    what: str = ""
    """For ``corpus``: its parts, such as ``vqa:train,gqa:train=2@regions-name`` (weight and region
    output are optional). For ``score``: the file of predictions."""

    purpose: str = ""
    """``list`` only the datasets with this purpose: pretraining, captioning, ..."""

    split: Splits = ()
    """Splits to check: one, several separated by commas, or a repeated option. Empty: all
    splits."""

    regions: Splits = ()
    """Outputs of ``vlray extract`` or ``convert``; ``check`` lists the images that they lack. For
    a corpus whose parts name their region output: ``NAME=OUT``."""

    mix: Literal["size", "weight", "round-robin"] = "size"
    """How to mix the parts of a ``corpus``: ``size`` reads every example once, ``weight`` divides
    an epoch among the parts by their weights, ``round-robin`` alternates between the parts."""

    spec: bool = False
    """Print the YAML that ``add`` reads (for ``show``)."""

    data: DataSection = DataSection()
