"""Which model is meant where it is not named: the one that its weights are of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from vlray.config.model import ModelSection
from vlray.models.store import described

log = logging.getLogger("vlray.models")

AUTO = "auto"
DEFAULT = "lxmert"
KINDS = {"lxmert": "lxmert", "visual_bert": "visualbert"}
"""Names of models by transformers' ``model_type``."""


def named(options: ModelSection, cache: Path | None = None) -> ModelSection:
    """Put a model's name in the place of ``auto``.

    It is the one that ``vlray train`` kept with the weights, or of transformers' kind of them. A
    BERT fills either model: that is an LXMERT, as without weights.

    Args:
        options: ``name`` and ``weights``.
        cache: Where checkpoints of object storage are kept; not given: in vlray's cache.

    Raises:
        ValueError: The weights are not there, or cannot be had.
    """
    if options.name != AUTO:
        return options
    if not options.weights:
        return options.model_copy(update={"name": DEFAULT})
    name = _kept(options.weights, cache)
    if name == AUTO:
        from vlray.models.weights import find  # transformers takes seconds

        name = KINDS.get(find(options.weights).kind, DEFAULT)
    log.info("the model is %s (model.name), after the weights %s", name, options.weights)
    return options.model_copy(update={"name": name})


def _kept(weights: str, cache: Path | None) -> str:
    """Give the name that ``vlray train`` kept with the weights; ``auto``: it kept none."""
    kept = described(weights, cache=cache)
    try:
        return str(json.loads(kept)["model"]["name"]) if kept else AUTO
    except (ValueError, KeyError, TypeError):  # an output of regions, or it was changed
        return AUTO
