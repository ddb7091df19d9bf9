"""Options of the batches that a model reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vlray.settings.section import Section

BoxForm = Literal["none", "xyxy", "xyxy_area", "xyxy_wh", "xyxy_wh_area"]
Punctuation = Literal["keep", "visualbert"]

Rate = Annotated[float, Field(ge=0, le=1)]
ModelRate = Rate | Literal["model"]
MODEL = "model"
"""Placeholder for the model's own value."""


class PretrainingSection(Section):
    """Masking and text sampling of pretraining; the defaults are LXMERT's.

    VisualBERT on captions: ``sentences two``, ``region_rate 0``; on the texts of a task:
    ``sentences own``, ``region_rate 0``.
    """

    token_rate: Rate = 0.15
    """Share of the tokens to predict."""

    region_rate: Rate = 0.15
    """Share of the regions to predict."""

    hidden: Rate = 0.8
    """Share of the tokens and regions to predict that is replaced by [MASK], or zeros."""

    swapped: Rate = 0.1
    """Share of them that is replaced by a random token of the vocabulary, or a region of another
    image. The rest stays unchanged."""

    sentences: Literal["own", "one", "two"] = "one"
    """``own``: every text stays with its image. ``one``: a text of another image may replace it
    (LXMERT). ``two``: a second text of the same or another image follows (VisualBERT)."""

    unmatched: Rate = 0.5
    """Share of examples whose replaced or second text is of another image."""

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.hidden + self.swapped > 1:
            raise ValueError(
                f"hidden={self.hidden} and swapped={self.swapped} sum to more than 1; "
                "both are shares of the tokens and regions to predict"
            )
        return self


class ModelPretrainingSection(Section):
    """Masking and text sampling of pretraining; options that are not set come from the model."""

    token_rate: ModelRate = "model"
    """Share of the tokens to predict."""

    region_rate: ModelRate = "model"
    """Share of the regions to predict."""

    hidden: ModelRate = "model"
    """Share of the tokens and regions to predict that is replaced by [MASK], or zeros."""

    swapped: ModelRate = "model"
    """Share of them that is replaced by a random token of the vocabulary, or a region of another
    image. The rest stays unchanged."""

    sentences: Literal["model", "own", "one", "two"] = "model"
    """``own``: every text stays with its image. ``one``: a text of another image may replace it
    (LXMERT). ``two``: a second text of the same or another image follows (VisualBERT on
    captions)."""

    unmatched: ModelRate = "model"
    """Share of examples whose replaced or second text is of another image."""

    def settled(self, of_model: PretrainingSection | None) -> PretrainingSection | None:
        """Fill unset options with the model's values; None if nothing is to be masked."""
        options = {name: value for name, value in self if value != MODEL}
        if of_model is None and not options:
            return None
        return PretrainingSection(**((of_model or PretrainingSection()).model_dump() | options))


class _BatchSection(Section):
    """Options of batches that do not depend on the model."""

    visual: Literal["regions", "none"] = "regions"
    """``none``: replace the regions of each image by a single zero vector, to measure how well the
    text alone does."""

    num_boxes: Annotated[int, Field(ge=0)] = 0
    """Number of regions per image in a batch: more are cut, fewer are padded. 0: the largest number
    in the batch."""

    fixed_tokens: bool = False
    """Pad every text to ``max_tokens``, so that all batches have the same shape (torch.compile);
    otherwise to the longest text of the batch."""

    tokenizer: str = ""
    """``vocab.txt`` or ``tokenizer.json`` of a BERT, a folder with one of them, or
    ``bert-base-uncased``. Empty: that of ``model.weights``, or bert-base-uncased's if they have
    none."""

    pin_memory: bool = True
    """Allocate batches in pinned memory, which a GPU can copy while it computes; no effect without
    a GPU."""


class LoaderSection(_BatchSection):
    """Options that turn examples and regions into batches."""

    boxes: BoxForm = "xyxy"
    """Encoding of the boxes. ``none``: no boxes (VisualBERT). ``xyxy``: LXMERT. ``xyxy_area``:
    ViLBERT. ``xyxy_wh``: Oscar, VinVL. ``xyxy_wh_area``: UNITER."""

    # BERT has 512 positions. LXMERT trained with 20 tokens on VQA and GQA.
    max_tokens: Annotated[int, Field(ge=4, le=512)] = 20
    """Maximum number of tokens, [CLS] and [SEP] included; longer texts are cut."""

    template: str = "{text}"
    """Template of the text; VisualBERT answers questions with ``{text} ? [MASK]``."""

    punctuation: Punctuation = "keep"
    """``visualbert``: commas and question marks are removed from the text, as in the question words
    of VisualBERT's VQA training."""

    pretraining: PretrainingSection | None = None
    """Masking for pretraining; None for fine-tuning and evaluation."""


class ModelLoaderSection(_BatchSection):
    """Options that turn examples and regions into batches; unset options come from the model."""

    boxes: BoxForm | Literal["model"] = "model"
    """Encoding of the boxes: ``none``, ``xyxy`` (LXMERT), ``xyxy_area``, ``xyxy_wh``,
    ``xyxy_wh_area``; ``model``: that of the model."""

    max_tokens: Annotated[int, Field(ge=4, le=512)] | Literal["model"] = "model"
    """Maximum number of tokens, [CLS] and [SEP] included; longer texts are cut. LXMERT: 20."""

    template: str = "model"
    """Template of the text, such as ``{text} ? [MASK]``; ``model``: that of the model."""

    punctuation: Punctuation | Literal["model"] = "model"
    """``visualbert``: remove commas and question marks from the text, as VisualBERT's VQA training
    does. ``model``: ``visualbert`` where VisualBERT answers from [MASK], ``keep`` elsewhere."""

    pretraining: ModelPretrainingSection = ModelPretrainingSection()

    def settled(self, **of_model: Any) -> LoaderSection:
        """Fill unset options with the model's values.

        Args:
            of_model: Values of the model, by the names of `LoaderSection`.
        """
        options = {name: value for name, value in self if value != MODEL}
        # Option by option, so that one rate can be set and the others stay the model's.
        options["pretraining"] = self.pretraining.settled(of_model.get("pretraining"))
        return LoaderSection(**(of_model | options))
