"""Schema for dataset descriptions: ``datasets/*.yaml`` and your own YAML files."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlray.config.images import check_id_rule
from vlray.settings.section import Section
from vlray.tasks.answers import SoftScore

Purpose = Literal[
    "pretraining",
    "captioning",
    "question answering",
    "visual reasoning",
    "grounding",
    "retrieval",
    "document QA",
    "detection",
]

LabelKind = Literal["answers", "classes", "choices", "boxes", "none"]

# Also metrics that vlray does not compute: `metrics.SCORED` lists those that it does.
Metric = Literal[
    "vqa accuracy",
    "exact match",
    "canonical exact match",
    "accuracy",
    "gqa accuracy",
    "accuracy and consistency",
    "anls",
    "box accuracy at IoU 0.5",
    "phrase recall",
    "average precision",
    "recall at k",
    "entity F1",
    "captioning",
]

Submission = Literal["none", "vqa", "gqa", "vizwiz", "docvqa", "nlvr"]

# A name is also part of file names, in the catalogue and in the cache.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+._-]*$")]


class SplitSpec(Section):
    """One split: its annotation files and image folders."""

    files: dict[str, str | tuple[str, ...]] = {}  # noqa: RUF012 - pydantic copies it
    """Annotation files, keyed by role (``questions``, ``annotations``); the layout defines the
    roles. Each value is an official file name relative to the dataset's annotation folder, or a
    list of such names."""

    images: tuple[str, ...] = ()
    """Image folders of the split, relative to the image set's folder. Empty: the whole set."""

    download: tuple[str, ...] = ()
    """URLs of the files, or of the page to download them from."""

    of: str = ""
    """Split that this split is a subset of, selected by ``first_images`` or ``except_images``."""

    first_images: tuple[str, int] | None = None
    """Role (in ``files``) of a file that lists image ids, and a number n. The split has the
    examples for the first n images (LXMERT's minival)."""

    except_images: tuple[str, int] | None = None
    """Like ``first_images``, but the split has the examples for all other images (LXMERT's
    nominival)."""

    options: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Further options for the layout when it reads this split."""


class DatasetSpec(Section):
    """A dataset: its purposes, files, labels and metric."""

    name: Name
    title: str
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    home: str = ""
    licence: str = ""
    cite: str = ""
    """Paper to cite, as arXiv:NUMBER or a short reference."""

    layout: str
    """Function that reads the files: a name in ``vlray/tasks/layouts``, or your own function,
    ``module:function`` or ``path/to/file.py:function``."""

    image_set: str
    """Name of the image set (``coco``), which several datasets may share. ``data.images.NAME``
    sets the folder."""

    id_rule: Annotated[str, AfterValidator(check_id_rule)] = "stem"
    """How to derive the image_id from an image's name, as in ``vlray extract --id-rule``."""

    labels: LabelKind = "none"
    classes: tuple[str, ...] = ()
    """Class names in the order of their ids, for ``labels: classes``."""

    min_frequency: Annotated[int, Field(ge=1)] = 1
    """Minimum number of examples that must have an answer for the answer to become a label, for
    ``labels: answers``."""

    soft_score: SoftScore = "exact"
    """Score of an answer in the target: VQA's leave-one-out, LXMERT's 0/.3/.6/.9/1, or always 1.

    ``lxmert-pretraining`` scores as ``lxmert`` and spells answers as LXMERT's pretraining does."""

    metric: Metric

    submission: Submission = "none"
    """Format of prediction files for the official evaluation; ``vlray test`` writes such files."""

    splits: Annotated[dict[str, SplitSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        for name, split in self.splits.items():
            if split.of and split.of not in self.splits:
                raise ValueError(
                    f"split {name} is a subset of {split.of}, which does not exist; the splits "
                    f"are {', '.join(self.splits)}"
                )
            # A subset has exactly one of the two selections, any other split has neither.
            chosen = (split.first_images is not None) + (split.except_images is not None)
            if bool(split.of) != bool(chosen) or chosen > 1:
                raise ValueError(
                    f"split {name}: pass `of` together with either first_images or except_images"
                )
        if (self.labels == "classes") != bool(self.classes):
            raise ValueError("`classes` is required for labels: classes, and only allowed there")
        return self
