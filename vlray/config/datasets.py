"""Settings of ``vlray datasets``."""

from __future__ import annotations

from typing import ClassVar, Literal

from vlray.config.data import DataSection
from vlray.settings.base import Command, Splits


class DatasetsConfig(Command):
    """Look at the vision-language datasets: which there are, their files, what is missing."""

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
where the files are looked for:
  The annotation files of vqa are looked for in DATA_DIR/vqa, and the images of its image set coco
  in DATA_DIR/coco, under their official names. Say once where they are instead:
    python -m vlray.env set data.annotations.vqa /data/vqa
    python -m vlray.env set data.images.coco s3://bucket/coco

a dataset of your own:
  python -m vlray.datasets show vqa --spec > mine.yaml    and change the name, files, splits
  python -m vlray.datasets add mine.yaml"""

    action: Literal["list", "show", "check", "add", "remove", "corpus", "score"] = "list"
    """``list``: the catalogue. ``show NAME``: all that is known of a dataset. ``check NAME``: which
    files are here, how many examples they give, what is wrong with them; status 1 when something
    is missing. ``add WHAT``, ``remove NAME``: a dataset of your own. ``corpus NAME PARTS``: keep
    several splits together under a name. ``score NAME:SPLIT FILE``: measure predictions."""

    name: str = ""
    """A dataset, or ``dataset:split``. For ``add``: a YAML file, ``module:Class`` or
    ``file.py:Class``. For ``corpus`` the corpus; ``show`` and ``check`` know it by that name."""

    what: str = ""
    """For ``corpus``: its parts, ``vqa:train,gqa:train=2@regions-name`` (weight and region output
    are optional). For ``score``: the file of predictions."""

    purpose: str = ""
    """``list`` only what serves this: pretraining, captioning, question answering, ..."""

    split: Splits = ()
    """Splits to check: one, several with commas between them, or repeated. Empty: every one."""

    regions: Splits = ()
    """Outputs of ``vlray extract`` or ``convert``: ``check`` says which images they lack. Of a
    corpus whose parts name theirs: ``NAME=OUT``."""

    mix: Literal["size", "weight", "round-robin"] = "size"
    """How the parts of a ``corpus`` are mixed: every example once, by the parts' weights, or in
    equal turns."""

    spec: bool = False
    """``show`` as the YAML that ``add`` reads."""

    data: DataSection = DataSection()
