"""The words of the Visual Genome detector: 1,600 objects and 400 attributes.

The lists are those of bottom-up attention (arXiv:1707.07998), in the order of its class ids with
the background left out. A line may hold synonyms; the first one is the name.
"""

from __future__ import annotations

import functools
from importlib import resources

NUM_OBJECTS, NUM_ATTRIBUTES = 1600, 400


@functools.cache
def visual_genome_objects() -> tuple[str, ...]:
    """Give the names of the 1,600 object classes; ``obj_ids`` are indices into them."""
    return _names("objects_vocab.txt")


@functools.cache
def visual_genome_attributes() -> tuple[str, ...]:
    """Give the names of the 400 attributes; ``attr_ids`` are indices into them."""
    return _names("attributes_vocab.txt")


def _names(file: str) -> tuple[str, ...]:
    text = resources.files(__name__).joinpath(file).read_text(encoding="utf-8")
    return tuple(line.split(",")[0].strip() for line in text.splitlines())
