"""Options of the model: architecture, initial weights, loss."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field

from vlray.settings.base import Splits
from vlray.settings.section import Code, Section


def _plain(value: object) -> object:
    """Parse numbers and booleans that flags and variables contain as text."""
    if not isinstance(value, dict):
        return value
    # The same rules as in a YAML file, so that a flag and a file mean the same.
    return {k: yaml.safe_load(v) if isinstance(v, str) else v for k, v in value.items()}


class ModelSection(Section):
    """Model, its size, and its initial weights."""

    name: Code = "auto"
    """``lxmert``, ``visualbert``, a name that ``vlray env set models.NAME`` stored, or your own
    class: ``module:Class`` or ``path/to/file.py:Class`` (protocol in ``vlray/models/protocol.py``).
    ``auto``: the model of ``weights``; lxmert if the weights are of a BERT or empty."""

    weights: str = ""
    """Initial weights: a folder that ``save_pretrained`` or ``vlray train`` wrote, a file with
    tensors such as LXMERT's ``Epoch20_LXRT.pth``, a model of the Hugging Face Hub
    (``unc-nlp/lxmert-base-uncased``), or ``minilm``. A BERT (bert-base-uncased, minilm) fills the
    text encoder. Empty: random initialization; a resumed run continues from its checkpoint."""

    answers: str = ""
    """File with the answers of the answer head in ``weights``, if the weights do not list them:
    LXMERT's ``all_ans.json`` for ``unc-nlp/lxmert-base-uncased``. Answers of DATA that are in this
    file start from their trained rows."""

    architecture: Annotated[dict[str, Any], BeforeValidator(_plain)] = {}  # noqa: RUF012 - pydantic copies it
    """Fields of the transformers configuration that override its defaults or those of ``weights``;
    several are separated by commas: ``l_layers=4,hidden_dropout_prob=0.2``."""

    pooling: Literal["model", "mean"] = "model"
    """Text state from which answers are predicted. ``model``: as published (LXMERT: first token;
    VisualBERT: a [MASK] after the question). ``mean``: mean over the text's tokens, as in sentence
    encoders such as minilm."""

    answer_start: Literal["random", "text"] = "random"
    """Initialization of the last layer over answers. ``text``: the text encoder's vector of each
    answer, behind a hidden layer as wide as the model; rare answers then start near answers of
    similar meaning."""

    cross_start: Literal["random", "text"] = "random"
    """Initialization of LXMERT's cross-modal layers, if the weights do not fill them. ``text``:
    outputs so small that the model begins with the states of its text layers."""

    loss: Literal["model", "bce", "kl", "cross-entropy"] = "model"
    """Loss over answers and classes. ``bce``: binary cross-entropy of each label against its soft
    score, summed over the labels (LXMERT on VQA, GQA). ``kl``: Kullback-Leibler divergence of the
    softmax from the soft scores (VisualBERT on VQA). ``cross-entropy``: softmax cross-entropy of
    the best label (both on NLVR2; VisualBERT on answers that are right or wrong). ``model``: as
    published for this kind of task; the log names it."""

    auxiliary: str = ""
    """Field of the examples to predict as well, from the mean of the projected regions, such as
    ``organ`` of VQA-RAD; for small datasets. Empty: none."""

    auxiliary_weight: Annotated[float, Field(gt=0)] = 0.3
    """Weight of the loss of ``auxiliary``."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of the target that is spread equally over all labels, for ``kl`` and ``cross-entropy``
    only."""

    box_feats: bool = False
    """Append the normalized box (x1, y1, x2, y2, area) to each region vector, for a model without a
    box input (VisualBERT)."""

    standardize: bool = False
    """Standardize region vectors to mean 0 and standard deviation 1 of the training images. The
    statistics are saved with the model in ``standardize.safetensors``; code that loads the model
    without vlray must apply them."""

    freeze: Splits = ()
    """Parameters that are not trained, by name or pattern: ``*.word_embeddings.*``."""

    activation_checkpointing: bool = False
    """Activation checkpointing: recompute each layer in the backward pass instead of storing its
    activations. Needs less memory and about a third more time."""

    compile: bool = False
    """Compile the model with torch.compile; also set ``loader.fixed_tokens`` and
    ``loader.num_boxes``, so that shapes stay constant."""
