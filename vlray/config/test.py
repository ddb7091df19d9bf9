"""Options of ``vlray test``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.data import DataSection
from vlray.config.training import Precision
from vlray.settings.base import Command, Splits
from vlray.settings.section import Code


class TestConfig(Command):
    """Test a trained model on a split: metrics, submission file and a page of examples."""

    __test__: ClassVar[bool] = False  # not a pytest class

    command: ClassVar[str] = "test"
    positionals: ClassVar[dict[str, str]] = {
        "CHECKPOINT": "checkpoint",
        "DATA": "corpus",
        "REGIONS": "regions",
    }
    # ``data`` itself is taken: it is the section with the folders of the datasets.
    aliases: ClassVar[dict[str, str]] = {"data": "corpus"}
    notes: ClassVar[str] = """\
files written:
  metrics.json        all metrics with 95 % intervals, overall and by type of question
  predictions.json    predictions by example_id
  submission.json     the dataset's official format, if it has one (NLVR, NLVR2: submission.csv)
  index.html          right and wrong examples with their regions; works offline"""
    common: ClassVar[tuple[str, ...]] = (
        "output",
        "batch_size",
        "precision",
        "limit",
        "examples_shown",
        "images_root",
        "data.annotations",
        "data.on_bad",
    )
    examples: ClassVar[tuple[str, ...]] = (
        "models/vqa vqa:minival",
        "--checkpoint models/vqa/best --data vqa:minival --regions regions/",
        "models/nlvr2 nlvr2:test1 regions/ --output nlvr2-test1",
        "models/vqa vqa:test-dev regions-test/ --precision bf16",
    )

    checkpoint: str = ""
    """Output folder of ``vlray train``: OUT (uses the best checkpoint), OUT/best or OUT/last."""

    corpus: str = ""
    """``dataset:split`` to test on. A matching model ranks the images for each text and the texts
    for each image."""

    regions: Splits = ()
    """Outputs with the regions of the images. Empty: the outputs that the model was trained on."""

    model_name: Code = ""
    """Your own model class, if the checkpoint was trained with one: ``module:Class`` or
    ``path/to/file.py:Class``, as ``--model.name`` of ``vlray train``. It must have the name that
    the checkpoint states. vlray runs no code that only a file names."""

    output: str = ""
    """Folder or URI for the files. Empty: the run folder."""

    batch_size: Annotated[int, Field(ge=1)] = 64
    """Examples per batch."""

    precision: Precision = "fp32"
    """Precision of the model's arithmetic."""

    limit: Annotated[int, Field(ge=0)] = 0
    """Maximum number of examples (in retrieval: images), evenly spaced over the split. 0: all."""

    resamples: Annotated[int, Field(ge=0)] = 10_000
    """Bootstrap resamples for the 95 % confidence intervals. 0: no intervals."""

    examples_shown: Annotated[int, Field(ge=0)] = 48
    """Number of examples on the page, half of them right and half wrong. 0: no page."""

    images_root: str = ""
    """Folder or URI of the images. Empty: where they were extracted from."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Random seed of the bootstrap and of the choice of examples."""

    data: DataSection = DataSection()
