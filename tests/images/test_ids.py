"""Ids come from names by rule, and no two images share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.images.ids import image_ids

NAMES = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map(
    "/".join
)


@pytest.mark.parametrize(
    ("path", "rule", "expected"),
    [
        ("a.jpg", "stem", "a"),
        ("train/x/a b.c.JPEG", "stem", "a b.c"),
        ("a", "stem", "a"),
        ("x/.jpg", "stem", ".jpg"),
        ("x.y/a", "stem", "a"),
        ("/data/a.jpg", "stem", "a"),
        ("s3://bucket/k/a%20b.jpg?region=eu-west-1", "stem", "a b"),
        ("train/x/a.b.jpg", "path", "train/x/a.b"),
        ("x.y/a", "path", "x.y/a"),
        ("../a.jpg", "path", "../a"),
        ("COCO_train2014_000000084002.jpg", "coco", "84002"),
        ("train2017/000000000009.jpg", "coco", "9"),
        ("000000000000.jpg", "coco", "0"),
        ("7.jpg", "coco", "7"),
        ("a.b/000012.seg.png", "key", "a.b/000012"),
        ("000012.jpg", "key", "000012"),
        ("v2_0012", "coco", "12"),
        ("a/img-007.png", r"regex:\d+", "007"),
        ("a/img-007.png", r"regex:(\w+)-0*(\d+)", "img"),
        ("a/img-007.png", r"regex:(\w+)-0*(?P<id>\d+)", "7"),
        ("a/img-007.png", "regex:^[^/]+", "a"),
        ("a/img-007.png", "regex:(.+)", "a/img-007.png"),
        ("a:b.png", "regex:a:(.)", "b"),
    ],
)
def test_a_path_becomes_an_id(path: str, rule: str, expected: str) -> None:
    assert image_ids([path], rule) == [expected]


@pytest.mark.parametrize(
    ("paths", "rule", "message"),
    [
        (["a.jpg"], "name", "id rule 'name' is unknown; choose stem, path, key, coco or "),
        (["a.jpg"], "regex:", "id rule 'regex:' is unknown"),
        (["a.jpg"], "regex:(", r"id rule regex:\( is not a valid pattern: missing \)"),
        (["a/b.jpg"], "coco", "'a/b.jpg' has no number at the end of its name"),
        (["12a.jpg"], "coco", "'12a.jpg' has no number at the end of its name"),
        (["a/b.jpg"], r"regex:\d", r"'a/b.jpg' is not matched by id rule regex:\\d"),
        (["a/b.jpg"], "regex:x*", r"'a/b.jpg' gets an empty id from id rule regex:x\*"),
        (["a/b.jpg"], "regex:(x)?b", r"'a/b.jpg' gets an empty id"),
    ],
)
def test_a_rule_that_gives_no_id_is_refused(paths: list[str], rule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_ids(paths, rule)


def test_two_files_with_one_id_are_both_named_with_the_way_out() -> None:
    paths = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "c/1.jpg", "c/2.png"]
    with pytest.raises(ValueError, match="both get the image id") as caught:
        image_ids(paths, "stem")
    assert str(caught.value) == (
        "'a/1.jpg' and 'b/1.jpg' both get the image id '1' from id rule stem (2 more files "
        "also repeat an id); make the ids unique with --images.id-rule 'path'"
    )


def test_one_name_with_two_extensions_has_a_way_out_as_well() -> None:
    paths = ["a/1.jpg", "a/1.png"]
    with pytest.raises(ValueError, match=r"--images.id-rule 'regex:\(\.\+\)'"):
        image_ids(paths, "path")
    assert image_ids(paths, "regex:(.+)") == paths


@given(paths=st.lists(PATHS, unique=True))
def test_ids_are_unique_or_refused(paths: list[str]) -> None:
    for rule in ("stem", "path", "regex:(?s).+"):
        try:
            ids = image_ids(paths, rule)
        except ValueError as error:
            assert "both get the image id" in str(error)  # noqa: PT017 - only some rules raise
        else:
            assert len(set(ids)) == len(ids) == len(paths)
            assert all(ids)


@given(number=st.integers(0, 10**12 - 1), year=st.sampled_from(["train2014", "val2014"]))
def test_coco_ids_are_the_numbers_of_the_annotations(number: int, year: str) -> None:
    assert image_ids([f"{year}/COCO_{year}_{number:012}.jpg"], "coco") == [str(number)]
    assert image_ids([f"{number:012}.jpg"], "coco") == [str(number)]
