"""Options that say how examples become the batches of a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Section

BoxForm = Literal["none", "xyxy", "xyxy_area", "xyxy_wh", "xyxy_wh_area"]

Rate = Annotated[float, Field(ge=0, le=1)]
ModelRate = Rate | Literal["model"]
MODEL = "model"
"""Stands for whatever the model wants."""


class PretrainingSection(Section):
    """What is hidden of an example, to be found again; the defaults are LXMERT's.

    VisualBERT on captions: ``sentences two``, ``region_rate 0``; on the task's own texts:
    ``sentences own``, ``region_rate 0``.
    """

    token_rate: Rate = 0.15
    """Share of the tokens that have to be found again."""

    region_rate: Rate = 0.15
    """Share of the regions that have to be found again."""

    hidden: Rate = 0.8
    """Of these tokens and regions, the share that becomes [MASK], or zeros."""

    swapped: Rate = 0.1
    """The share that becomes a random token of the vocabulary, or a region of another image. The
    rest stays as it is."""

    sentences: Literal["own", "one", "two"] = "one"
    """``own``: every text stays with its image. ``one``: it may be replaced by a text of another
    image (LXMERT). ``two``: a second one follows, of the same image or of another (VisualBERT)."""

    unmatched: Rate = 0.5
    """How often that text is of another image."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.hidden + self.swapped > 1:
            raise ValueError(
                f"hidden={self.hidden} and swapped={self.swapped} are more than everything; "
                "they are shares of what is masked, and their sum is 1 at most"
            )
        return self


class ModelPretrainingSection(Section):
    """What is hidden of an example in pretraining; what is not given is as the model wants it."""

    token_rate: ModelRate = "model"
    """Share of the tokens that have to be found again."""

    region_rate: ModelRate = "model"
    """Share of the regions that have to be found again."""

    hidden: ModelRate = "model"
    """Of these tokens and regions, the share that becomes [MASK], or zeros."""

    swapped: ModelRate = "model"
    """The share that becomes a random token of the vocabulary, or a region of another image. The
    rest stays as it is."""

    sentences: Literal["model", "own", "one", "two"] = "model"
    """``own``: every text stays with its image. ``one``: it may be replaced by a text of another
    image (LXMERT). ``two``: a second one follows, of the same image or of another (VisualBERT on
    captions)."""

    unmatched: ModelRate = "model"
    """How often that text is of another image."""

    def settled(self, of_model: PretrainingSection | None) -> PretrainingSection | None:
        """Take the model's values where none are given; None: nothing is to be hidden at all."""
        given = {name: value for name, value in self if value != MODEL}
        if of_model is None and not given:
            return None
        return PretrainingSection(**((of_model or PretrainingSection()).model_dump() | given))


class _BatchSection(Section):
    """What is the same whether the model or the user says how boxes and texts are given."""

    visual: Literal["regions", "none"] = "regions"
    """``none``: each image is one region of zeros in the place of its own, to learn how far the
    texts alone go."""

    num_boxes: Annotated[int, Field(ge=0)] = 0
    """Regions an image has in a batch: more are cut, fewer padded. 0: those of the image that has
    the most of them in the batch."""

    fixed_tokens: bool = False
    """Pad every text to ``max_tokens``, so that all batches have one shape (torch.compile);
    otherwise to the longest of the batch."""

    tokenizer: str = ""
    """A ``vocab.txt`` or ``tokenizer.json`` of BERT's kind. Empty: that of bert-base-uncased."""

    pin_memory: bool = False
    """Put batches into memory that a GPU reads while it computes; without one, no effect."""


class LoaderSection(_BatchSection):
    """How examples and regions become a batch."""

    boxes: BoxForm = "xyxy"
    """How the model is told where regions are. ``none``: not at all (VisualBERT). ``xyxy``: LXMERT.
    ``xyxy_area``: ViLBERT. ``xyxy_wh``: Oscar, VinVL. ``xyxy_wh_area``: UNITER."""

    max_tokens: Annotated[int, Field(ge=4, le=512)] = 20
    """Tokens of a text, [CLS] and [SEP] included; a longer text is cut."""

    template: str = "{text}"
    """What the model reads; VisualBERT answers questions from ``{text} ? [MASK]``."""

    pretraining: PretrainingSection | None = None
    """Mask for pretraining; none: fine-tuning and evaluation."""


class ModelLoaderSection(_BatchSection):
    """How examples and regions become a batch; what is not given is as the model wants it."""

    boxes: BoxForm | Literal["model"] = "model"
    """How the model is told where regions are: ``none``, ``xyxy`` (LXMERT), ``xyxy_area``,
    ``xyxy_wh``, ``xyxy_wh_area``; ``model``: as it wants them."""

    max_tokens: Annotated[int, Field(ge=4, le=512)] | Literal["model"] = "model"
    """Tokens of a text, [CLS] and [SEP] included; a longer text is cut. LXMERT: 20."""

    template: str = "model"
    """What the model reads, such as ``{text} ? [MASK]``; ``model``: as it wants it."""

    pretraining: ModelPretrainingSection = ModelPretrainingSection()

    def settled(self, **of_model: Any) -> LoaderSection:
        """Take the model's values where none are given.

        Args:
            of_model: What the model wants, by the names of `LoaderSection`.
        """
        given = {name: value for name, value in self if value != MODEL}
        given["pretraining"] = self.pretraining.settled(of_model.get("pretraining"))
        return LoaderSection(**(of_model | given))
