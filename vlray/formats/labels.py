"""Names of object and attribute ids, from ``--labels``, a sidecar file or Visual Genome."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlray.detect.vinvl.label_map import read_label_map
from vlray.regions.vocabulary import visual_genome_attributes, visual_genome_objects

SIDECAR = ".vlray.json"
"""Suffix of an export's sidecar file, which holds the names of the ids."""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Object and attribute names, indexed by id, and their source; no names if unknown."""

    objects: Names
    attributes: Names
    source: str


class Vocabulary:
    """Names indexed by id; new names get the next ids, in order of appearance."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        # Reversed, so that the first id wins if a name occurs more than once.
        self._id_of = {name: index for index, name in reversed(list(enumerate(names)))}

    def ids(self, words: Sequence[str]) -> np.ndarray:
        """Return the id of each word; a new word gets the next free id."""
        ids = np.empty(len(words), np.int32)
        for index, word in enumerate(words):
            if word not in self._id_of:
                self._id_of[word] = len(self.names)
                self.names.append(word)
            ids[index] = self._id_of[word]
        return ids


def read_labels(paths: Sequence[str]) -> Labels:
    """Read the files passed as ``--labels``: one JSON file, or text files with one name per line.

    The JSON file is the ``labels.json`` of an output, or VinVL's label map.

    Raises:
        ValueError: A file cannot be read, or has no names.
    """
    if len(paths) == 1 and paths[0].endswith(".json"):
        return read_labels_json(Path(paths[0]))
    names = [_words(Path(path)) for path in paths]
    return Labels(names[0], names[1] if names[1:] else (), ", ".join(paths))


def read_labels_json(path: Path) -> Labels:
    """Read ``obj_names`` and ``attr_names`` from a JSON file.

    Raises:
        ValueError: The file cannot be read, or has no ``obj_names``.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        if "label_to_idx" in names:
            return Labels(*read_label_map(path), path.name)
        objects, attributes = names["obj_names"], names.get("attr_names", [])
        return Labels(tuple(map(str, objects)), tuple(map(str, attributes)), path.name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} contains no label names ({error!r}); pass a labels.json with obj_names and "
            "attr_names, or text files with one name per line"
        ) from error


def infer_names(source: Path) -> Labels:
    """Return the names whose ids are known for a file that has words instead of ids.

    Args:
        source: The file; an export by vlray has a sidecar file with the names.
    """
    beside = source.with_name(source.name + SIDECAR)
    if beside.is_file():
        return read_labels_json(beside)
    return Labels((), (), "names in the file")


def infer_labels(
    source: Path,
    largest: tuple[int, int],
    feature_dim: int,
    vocabulary: tuple[Names, Names] | None = None,
) -> Labels:
    """Infer the names of the ids in a file that has only ids.

    Args:
        source: The file; an export by vlray has a sidecar file with the names.
        largest: Largest object id and largest attribute id in the first images; -1 for no ids.
        feature_dim: Length of the feature vectors; 2048 for the Visual Genome detector.
        vocabulary: Object and attribute names that the file itself has; None if it has none.

    Raises:
        ValueError: The sidecar file cannot be read.
    """
    beside = source.with_name(source.name + SIDECAR)
    if beside.is_file():
        return read_labels_json(beside)
    if vocabulary is not None:
        return Labels(*vocabulary, "names in the file")
    objects, attributes = visual_genome_objects(), visual_genome_attributes()
    if largest == (-1, -1):
        return Labels((), (), "the file has no labels")
    # Small ids fit any vocabulary; 2048 values are the length of Visual Genome detectors' vectors.
    if feature_dim == 2048 and largest[0] < len(objects) and largest[1] < len(attributes):
        return Labels(objects, attributes, "Visual Genome (the ids fit)")
    return Labels((), (), "unknown (pass --labels)")


def _words(path: Path) -> Names:
    """Read one name per line; if a line lists synonyms, use the first."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--labels {path} cannot be read: {error}") from error
    names = tuple(line.split(",")[0].strip() for line in text.split("\n"))
    # Drop empty lines at the end only: dropping an earlier one would shift the ids.
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise ValueError(f"--labels {path} is empty; pass a file with one name per line")
    return names
