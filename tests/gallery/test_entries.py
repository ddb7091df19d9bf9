from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlray.gallery.entries import file_names, read_entries


def test_regions_come_best_score_first(make_output):
    first = next(read_entries(make_output()))
    np.testing.assert_allclose(first.obj_probs, [0.97, 0.64, 0.12], rtol=1e-6)
    assert first.obj_ids.tolist() == [0, 2, 1]
    assert first.attr_ids.tolist() == [0, 1, 0]
    assert first.boxes.tolist() == [[5, 5, 25, 25], [30, 5, 75, 55], [8, 8, 20, 20]]


def test_every_image_is_read_in_the_order_of_the_files(make_output):
    output = make_output()
    entries = list(read_entries(output))
    assert [entry.image_id for entry in entries] == output.image_ids
    assert [len(entry) for entry in entries] == [3, 1, 1, 0, 2]


def test_splits_and_a_limit_choose_images(make_output):
    output = make_output()
    assert [entry.split for entry in read_entries(output, split=("val",))] == ["val"] * 3
    assert [entry.image_id for entry in read_entries(output, limit=2)] == ["84002", "a/b c"]
    assert len(list(read_entries(output, split=("val",), limit=2))) == 2


def test_a_threshold_keeps_the_regions_at_it(make_output):
    first = next(read_entries(make_output()))
    assert len(first.above(0.64)) == 2
    assert len(first.above(0.65)) == 1
    assert len(first.above(0)) == 3


def test_a_detector_without_labels_keeps_all_regions(make_output):
    first = next(read_entries(make_output(labels=False)))
    assert len(first.obj_ids) == 0
    assert len(first.above(0.9)) == 3


def test_plain_ids_keep_their_names():
    ids = ["84002", "IMG_0001", "x-1.y"]
    assert file_names(ids) == ids


@given(st.lists(st.text(max_size=300), unique=True, max_size=20))
def test_any_ids_get_safe_names_that_no_file_system_confuses(ids):
    names = file_names(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", name) for name in names)
    assert not any(name.startswith(".") for name in names)
    assert len({name.casefold() for name in names}) == len(ids)


def test_ids_that_differ_by_case_get_different_names():
    first, second, third = file_names(["cat", "Cat", "dog"])
    assert first.casefold() != second.casefold()
    assert third == "dog"
