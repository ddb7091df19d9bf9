"""Settings of ``vlray test``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.data import DataSection
from vlray.config.training import Precision
from vlray.settings.base import Command, Splits


class TestConfig(Command):
    """Test a trained model on a split: metrics, the official file, a page of examples."""

    __test__: ClassVar[bool] = False  # pytest is not to collect it

    command: ClassVar[str] = "test"
    positionals: ClassVar[dict[str, str]] = {
        "CHECKPOINT": "checkpoint",
        "DATA": "corpus",
        "REGIONS": "regions",
    }
    aliases: ClassVar[dict[str, str]] = {"data": "corpus"}
    notes: ClassVar[str] = """\
what is written:
  metrics.json        every figure with its 95 % interval, overall and by type of question
  predictions.json    what was predicted, by example_id
  submission.json     the dataset's official file, where it has one (NLVR, NLVR2: submission.csv)
  index.html          right and wrong examples with their regions; opens without a network"""
    examples: ClassVar[tuple[str, ...]] = (
        "models/vqa vqa:minival",
        "--checkpoint models/vqa/best --data vqa:minival --regions regions/",
        "models/nlvr2 nlvr2:test1 regions/ --output nlvr2-test1",
        "models/vqa vqa:test-dev regions-test/ --precision bf16",
    )

    checkpoint: str = ""
    """A folder that ``vlray train`` wrote: OUT (its best model is taken), OUT/best or OUT/last."""

    corpus: str = ""
    """``dataset:split`` to test on. A model of matching ranks its images by each text, and its
    texts by each image."""

    regions: Splits = ()
    """Outputs that have the images. Empty: those that the model was trained on."""

    output: str = ""
    """Folder or URI for metrics.json, predictions, the submission file and the page. Empty: the
    run folder."""

    batch_size: Annotated[int, Field(ge=1)] = 64
    """Examples computed at a time."""

    precision: Precision = "fp32"
    """Numbers that the model computes in."""

    limit: Annotated[int, Field(ge=0)] = 0
    """Only so many examples (in retrieval: images), evenly spread over the split; 0: all of
    them."""

    resamples: Annotated[int, Field(ge=0)] = 10_000
    """Of the bootstrap that gives the 95 % confidence intervals; 0: none."""

    examples_shown: Annotated[int, Field(ge=0)] = 48
    """Right and wrong examples on the page, half each; 0: no page."""

    images_root: str = ""
    """Where the images are now; where they were at the extraction, if empty."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Of the bootstrap and the choice of examples."""

    data: DataSection = DataSection()
