"""Names of object and attribute ids: given, found beside the file, or Visual Genome's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlray.regions.vocabulary import visual_genome_attributes, visual_genome_objects

SIDECAR = ".vlray.json"
"""Ending of the file beside an export that holds the names of its ids."""

Names = tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Names by id, and where they come from; empty names where nothing is known."""

    objects: Names
    attributes: Names
    origin: str


class Vocabulary:
    """Names that grow: of a file that holds words, ids are given in the order of their coming."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._id_of = {name: index for index, name in reversed(list(enumerate(names)))}

    def ids(self, words: Sequence[str]) -> np.ndarray:
        """Give each word its id; a new word gets the next one."""
        ids = np.empty(len(words), np.int32)
        for place, word in enumerate(words):
            if word not in self._id_of:
                self._id_of[word] = len(self.names)
                self.names.append(word)
            ids[place] = self._id_of[word]
        return ids


def given_labels(paths: Sequence[str]) -> Labels:
    """Read the files of ``--labels``.

    Raises:
        ValueError: One of them cannot be read, or holds no names.
    """
    if len(paths) == 1 and paths[0].endswith(".json"):
        return labels_of_json(Path(paths[0]))
    names = [_words(Path(path)) for path in paths]
    return Labels(names[0], names[1] if names[1:] else (), ", ".join(paths))


def labels_of_json(path: Path) -> Labels:
    """Read ``obj_names`` and ``attr_names`` from JSON.

    Raises:
        ValueError: It is not such a file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        objects, attributes = found["obj_names"], found.get("attr_names", [])
        return Labels(tuple(map(str, objects)), tuple(map(str, attributes)), path.name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds no names ({error!r}); give a labels.json with obj_names and "
            "attr_names, or text files with one name per line"
        ) from error


def labels_for(source: Path, largest: tuple[int, int], feature_dim: int) -> Labels:
    """Find the names of ids that a file holds without names.

    Args:
        source: The file; a vlray export has a file of names beside it.
        largest: Largest object and attribute id among the first images; -1: there are none.
        feature_dim: Length of its vectors; those of Visual Genome's detector are 2048.
    """
    beside = source.with_name(source.name + SIDECAR)
    if beside.is_file():
        return labels_of_json(beside)
    objects, attributes = visual_genome_objects(), visual_genome_attributes()
    if largest == (-1, -1):
        return Labels((), (), "the file has no labels")
    if feature_dim == 2048 and largest[0] < len(objects) and largest[1] < len(attributes):
        return Labels(objects, attributes, "Visual Genome, as the ids fit it")
    return Labels((), (), "unknown: give --labels")


def _words(path: Path) -> Names:
    """Read one name per line, of synonyms with commas the first, with any line ends."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--labels {path} cannot be read: {error}") from error
    names = tuple(line.split(",")[0].strip() for line in text.split("\n"))
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise ValueError(f"--labels {path} is empty; give a file with one name per line")
    return names
