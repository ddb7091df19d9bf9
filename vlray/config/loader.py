"""Options that say how examples become the batches of a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.config.section import Section

BoxForm = Literal["none", "xyxy", "xyxy_area", "xyxy_wh", "xyxy_wh_area"]

Rate = Annotated[float, Field(ge=0, le=1)]


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


class _BatchSection(Section):
    """What is the same whether the model or the user says how boxes and texts are given."""

    visual: Literal["regions", "none"] = "regions"
    """``none``: each image is one region of zeros in the place of its own, to learn how far the
    texts alone go."""

    num_boxes: Annotated[int, Field(ge=0)] = 0
    """Regions an image has in a batch: more are cut, fewer padded. 0: those of the image that has
    the most of them in the batch."""

    max_tokens: Annotated[int, Field(ge=4, le=512)] = 20
    """Tokens of a text, [CLS] and [SEP] included; a longer text is cut."""

    fixed_tokens: bool = False
    """Pad every text to ``max_tokens``, so that all batches have one shape (torch.compile);
    otherwise to the longest of the batch."""

    tokenizer: str = ""
    """A ``vocab.txt`` or ``tokenizer.json`` of BERT's kind. Empty: that of bert-base-uncased."""

    pin_memory: bool = False
    """Put batches into memory that a GPU reads while it computes; without one, no effect."""

    pretraining: PretrainingSection | None = None
    """Mask for pretraining; none: fine-tuning and evaluation."""


class LoaderSection(_BatchSection):
    """How examples and regions become a batch."""

    boxes: BoxForm = "xyxy"
    """How the model is told where regions are. ``none``: not at all (VisualBERT). ``xyxy``: LXMERT.
    ``xyxy_area``: ViLBERT. ``xyxy_wh``: Oscar, VinVL. ``xyxy_wh_area``: UNITER."""

    template: str = "{text}"
    """What the model reads; VisualBERT answers questions from ``{text} ? [MASK]``."""


class ModelLoaderSection(_BatchSection):
    """How examples and regions become a batch; what is not given is as the model wants it."""

    boxes: BoxForm | Literal["model"] = "model"
    """How the model is told where regions are: ``none``, ``xyxy`` (LXMERT), ``xyxy_area``,
    ``xyxy_wh``, ``xyxy_wh_area``; ``model``: as it wants them."""

    template: str = "model"
    """What the model reads, such as ``{text} ? [MASK]``; ``model``: as it wants it."""

    def settled(self, **of_model: Any) -> LoaderSection:
        """Take the model's values where none are given.

        Args:
            of_model: What the model wants, by the names of `LoaderSection`.
        """
        given = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in of_model.items():
            if given[name] in ("model", None):
                given[name] = value
        plain = LoaderSection()
        for name in ("boxes", "template"):
            if given[name] == "model":
                given[name] = getattr(plain, name)
        return LoaderSection(**given)
