"""Resolution of ``model.name=auto`` from the weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from vlray.config.model import ModelSection
from vlray.models.store import read_description

log = logging.getLogger("vlray.models")

AUTO = "auto"
DEFAULT = "lxmert"
KINDS = {"lxmert": "lxmert", "visual_bert": "visualbert"}
"""Model names by transformers' ``model_type``."""


def named(options: ModelSection, cache: Path | None = None) -> ModelSection:
    """Replace the model name ``auto`` by the model of the weights.

    The name comes from the checkpoint if ``vlray train`` wrote it, else from the ``model_type`` of
    the weights. A BERT fits either model; for a BERT, or without weights, the name is ``lxmert``.

    Args:
        options: ``name`` and ``weights``.
        cache: Local folder for checkpoints from object storage; vlray's cache by default.

    Raises:
        ValueError: The weights were not found or could not be downloaded.
    """
    if options.name != AUTO:
        return options
    if not options.weights:
        return options.model_copy(update={"name": DEFAULT})
    name = _saved_name(options.weights, cache)
    if name == AUTO:
        from vlray.models.weights import find  # importing transformers takes seconds

        name = KINDS.get(find(options.weights).kind, DEFAULT)
    log.info("model.name is %s, detected from the weights %s", name, options.weights)
    return options.model_copy(update={"name": name})


def _saved_name(weights: str, cache: Path | None) -> str:
    """Return the model name that ``vlray train`` saved; ``auto`` if it saved none."""
    description = read_description(weights, cache=cache)
    try:
        return str(json.loads(description)["model"]["name"]) if description else AUTO
    except (ValueError, KeyError, TypeError):  # of an output of vlray extract, or edited
        return AUTO
