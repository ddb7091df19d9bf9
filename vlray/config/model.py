"""Options that say which model is trained or tested, and what it starts from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field

from vlray.settings.base import Splits
from vlray.settings.section import Section


def _plain(value: Any) -> Any:
    """Read numbers and the like that flags and variables give as text."""
    if not isinstance(value, dict):
        return value
    return {k: yaml.safe_load(v) if isinstance(v, str) else v for k, v in value.items()}


class ModelSection(Section):
    """Which model, its size, and what it starts from."""

    name: str = "auto"
    """``lxmert``, ``visualbert``, a name that ``vlray env set models.NAME`` keeps, or a class of
    your own: ``module:Class``, ``path/to/file.py:Class``; ``vlray/models/protocol.py`` says what
    it has to be. ``auto``: what ``weights`` are of; lxmert where they are of a BERT, or none."""

    weights: str = ""
    """What it starts from: a folder that ``save_pretrained`` or ``vlray train`` wrote, a model of
    the hub (``unc-nlp/lxmert-base-uncased``), or ``minilm``; of a BERT (bert-base-uncased, minilm)
    the text side is taken. Empty: random numbers, or in a resumed run those of the checkpoint."""

    answers: str = ""
    """File of the answers that the answer head of ``weights`` was trained for, where they do not
    tell themselves: LXMERT's ``all_ans.json`` for ``unc-nlp/lxmert-base-uncased``. What that head
    knows of an answer of DATA is where that answer starts from."""

    architecture: Annotated[dict[str, Any], BeforeValidator(_plain)] = {}  # noqa: RUF012 - pydantic copies it
    """Fields of its transformers configuration, in the place of their defaults or of those of
    ``weights``; several with commas between them: ``l_layers=4,hidden_dropout_prob=0.2``."""

    pooling: Literal["model", "mean"] = "model"
    """What answers are read of. ``model``: as published, LXMERT of its first token, VisualBERT of a
    [MASK] behind the question. ``mean``: of the mean of the text's tokens, as a sentence encoder
    such as minilm was trained."""

    answer_start: Literal["random", "text"] = "random"
    """How the last layer over answers starts. ``text``: as what the text side of ``weights`` makes
    of each answer's words, behind a layer that is as wide as the model; answers that are rare begin
    near those that mean the like."""

    loss: Literal["model", "bce", "kl", "cross-entropy"] = "model"
    """Loss over answers and classes. ``bce``: binary cross-entropy of each label against its soft
    score, summed over the labels (LXMERT on VQA, GQA). ``kl``: Kullback-Leibler divergence of the
    softmax from the soft scores (VisualBERT on VQA). ``cross-entropy``: of the softmax and the one
    best label (both on NLVR2, and on answers that are right or wrong for VisualBERT). ``model``:
    as the model was published for this kind of task; the log says which it is."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    """Share of the target that all labels get alike; for ``kl`` and ``cross-entropy``."""

    box_feats: bool = False
    """Append the normalized box (x1, y1, x2, y2, area) to each region's vector, for a model that
    is told of no places otherwise (VisualBERT)."""

    standardize: bool = False
    """Bring each number of the regions' vectors to mean 0 and deviation 1 over the training's
    images. The numbers stay with the model, in ``standardize.safetensors``: who loads it without
    vlray has to apply them."""

    freeze: Splits = ()
    """Parameters that are not trained, by their names or patterns of them:
    ``*.word_embeddings.*``."""

    activation_checkpointing: bool = False
    """Compute each layer once more on the way back in the place of keeping what it gave: less
    memory, about a third more time."""

    compile: bool = False
    """Compile it by torch.compile; give ``loader.fixed_tokens`` and ``loader.num_boxes`` too, so
    that shapes do not change."""
