"""What the catalogue knows of a dataset; the form of ``datasets/*.yaml``, yours included."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vlray.config.images import check_id_rule
from vlray.settings.section import Section

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

Metric = Literal[
    "vqa accuracy",
    "exact match",
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

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+._-]*$")]


class SplitSpec(Section):
    """One split: its files and where its images are."""

    files: dict[str, str | tuple[str, ...]] = {}  # noqa: RUF012 - pydantic copies it
    """Annotation files by the role that the layout gives them (``questions``, ``annotations``),
    with their official names, relative to the dataset's annotation folder. A list: several."""

    images: tuple[str, ...] = ()
    """Folders of the split's images below the image set's; empty: all of it."""

    download: tuple[str, ...] = ()
    """Addresses of the files, or of the page where they are got by hand."""

    of: str = ""
    """Another split that this one is a part of, by ``first_images`` or ``except_images``."""

    first_images: tuple[str, int] | None = None
    """A file of image ids in their order (the role's name in ``files``) and how many of them:
    the examples of these images are this split (LXMERT's minival)."""

    except_images: tuple[str, int] | None = None
    """The same, but the split is the rest (LXMERT's nominival)."""

    options: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Whatever else the layout wants to know for this split."""


class DatasetSpec(Section):
    """A dataset: what it is for, its files, its labels, how it is measured."""

    name: Name
    title: str
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    home: str = ""
    licence: str = ""
    cite: str = ""
    """The paper, as arXiv:NUMBER or a short reference."""

    layout: str
    """How its files are read: a name in ``vlray/tasks/layouts``, or a function of your own,
    ``module:function`` or ``path/to/file.py:function``."""

    image_set: str
    """Name of the images that it shares with other datasets (``coco``): ``data.images.NAME``
    says where they are."""

    id_rule: Annotated[str, AfterValidator(check_id_rule)] = "stem"
    """How an image's name becomes its image_id, as for ``vlray extract --id-rule``."""

    labels: LabelKind = "none"
    classes: tuple[str, ...] = ()
    """The classes of ``labels: classes``, in the order of their ids."""

    min_frequency: Annotated[int, Field(ge=1)] = 1
    """Of ``labels: answers``: how many examples must have an answer for it to be a label."""

    soft_score: Literal["vqa", "lxmert", "exact"] = "exact"
    """How answers become a target: VQA's leave-one-out score, LXMERT's 0/.3/.6/.9/1, or 1."""

    metric: Metric

    submission: Submission = "none"
    """The form that its official evaluation wants predictions in; ``vlray test`` writes it."""

    splits: Annotated[dict[str, SplitSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_splits(self) -> Self:
        for name, split in self.splits.items():
            if split.of and split.of not in self.splits:
                raise ValueError(
                    f"split {name} is a part of {split.of}, which is none of "
                    f"{', '.join(self.splits)}"
                )
            chosen = (split.first_images is not None) + (split.except_images is not None)
            if bool(split.of) != bool(chosen) or chosen > 1:
                raise ValueError(
                    f"split {name}: give `of` together with one of first_images, except_images"
                )
        if (self.labels == "classes") != bool(self.classes):
            raise ValueError("give `classes` where, and only where, labels is classes")
        return self
