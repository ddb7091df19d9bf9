"""Resolution of ``model.name=auto``, based on the weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from vlray.config.model import ModelSection
from vlray.models.store import read_description
from vlray.settings import plugins

log = logging.getLogger("vlray.models")

AUTO = "auto"
DEFAULT = "lxmert"
KINDS = {"lxmert": "lxmert", "visual_bert": "visualbert"}
"""Model names, keyed by transformers' ``model_type``."""


def named(options: ModelSection, cache: Path | None = None) -> ModelSection:
    """Replace the model name ``auto`` with the name that fits the weights.

    A checkpoint from ``vlray train`` contains the name. For other weights, their ``model_type``
    determines it. BERT weights fit either model; for these, and without weights, the name is
    ``lxmert``.

    Args:
        options: Uses ``name`` and ``weights``.
        cache: Local folder for checkpoints from object storage. None: vlray's cache.

    Raises:
        ValueError: The checkpoint names a class outside vlray, or the weights were not found or
            could not be downloaded.
    """
    if options.name != AUTO:
        return options
    if not options.weights:
        return options.model_copy(update={"name": DEFAULT})
    saved = _saved_name(options.weights, cache)
    name = plugins.confirmed(saved, options.weights, "", "--model.name")
    if name == AUTO:
        from vlray.models.weights import find  # importing transformers takes seconds

        name = KINDS.get(find(options.weights).kind, DEFAULT)
    log.info("model.name is %s, detected from the weights %s", name, options.weights)
    return options.model_copy(update={"name": name})


def _saved_name(weights: str, cache: Path | None) -> str:
    """Return the model name that ``vlray train`` saved with the weights, or ``auto``."""
    description = read_description(weights, cache=cache)
    try:
        return str(json.loads(description)["model"]["name"]) if description else AUTO
    except (ValueError, KeyError, TypeError, RecursionError):  # written by vlray extract, or edited
        return AUTO
