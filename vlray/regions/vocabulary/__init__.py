"""Vocabulary of the Visual Genome detector: 1,600 object classes and 400 attributes.

The lists are from bottom-up attention (arXiv:1707.07998), in the order of its class ids, without
the background class. If a line lists synonyms, the first one is used.
"""

from __future__ import annotations

import functools
from importlib import resources

NUM_OBJECTS, NUM_ATTRIBUTES = 1600, 400


@functools.cache
def visual_genome_objects() -> tuple[str, ...]:
    """Return the names of the 1,600 object classes, indexed by ``obj_ids``."""
    return _names("objects_vocab.txt")


@functools.cache
def visual_genome_attributes() -> tuple[str, ...]:
    """Return the names of the 400 attributes, indexed by ``attr_ids``."""
    return _names("attributes_vocab.txt")


def _names(file: str) -> tuple[str, ...]:
    text = resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
    return tuple(line.split(",")[0].strip() for line in text.splitlines())
