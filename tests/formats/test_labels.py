from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlray.formats.labels import Vocabulary, infer_labels, read_labels

SOURCE = Path("nowhere.tsv")


def test_line_ends_synonyms_and_a_missing_last_newline_change_no_name(tmp_path: Path) -> None:
    objects, attributes = tmp_path / "objects.txt", tmp_path / "attributes.txt"
    objects.write_bytes(b"\xef\xbb\xbfyolk\r\ngoal,goalpost\r\nbathroom")
    attributes.write_bytes(b"floral\nlit\n")
    labels = read_labels((str(objects), str(attributes)))
    assert (labels.objects, labels.attributes) == (("yolk", "goal", "bathroom"), ("floral", "lit"))


def test_the_published_words_with_other_line_ends_are_ours(shared: Path, tmp_path: Path) -> None:
    text = (shared / "fixtures/vocab/objects_vocab.txt").read_text().replace("\n", "\r\n")
    (tmp_path / "objects.txt").write_text(text, newline="")
    given = read_labels((str(tmp_path / "objects.txt"),))
    assert given.objects == infer_labels(SOURCE, (1599, 399), 2048).objects


def test_visual_genomes_words_are_taken_where_the_ids_fit_them() -> None:
    assert infer_labels(SOURCE, (1599, 399), 2048).objects[72] == "sky"
    for largest, dim in (((1600, 399), 2048), ((5, 400), 2048), ((5, 5), 320), ((-1, -1), 2048)):
        assert infer_labels(SOURCE, largest, dim).objects == ()


def test_names_beside_an_export_count_more(tmp_path: Path) -> None:
    source = tmp_path / "x.tsv"
    names = {"obj_names": ["cat"], "attr_names": []}
    (tmp_path / "x.tsv.vlray.json").write_text(json.dumps(names))
    assert infer_labels(source, (0, -1), 2048).objects == ("cat",)


def test_files_without_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "other.json").write_text("[1]")
    for name, message in (
        ("empty.txt", "is empty; pass a file"),
        ("missing.txt", "cannot be read"),
        ("other.json", "contains no label names"),
    ):
        with pytest.raises(ValueError, match=message):
            read_labels((str(tmp_path / name),))


def test_new_words_get_the_next_ids() -> None:
    vocabulary = Vocabulary(["cat", "dog", "cat"])
    assert vocabulary.ids(["dog", "eel", "cat", "eel"]).tolist() == [1, 3, 0, 3]
    assert vocabulary.names == ["cat", "dog", "cat", "eel"]
