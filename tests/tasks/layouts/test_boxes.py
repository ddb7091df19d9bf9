"""Captions, detection and grounding, in tiny files of the published layouts and COCO's own."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vlray.config.data import DataSection
from vlray.tasks import catalogue
from vlray.tasks.example import Boxes, Example
from vlray.tasks.examples import open_examples
from vlray.tasks.problems import Problems


def read(name: str, split: str, files: Mapping[str, Path]) -> tuple[list[Example], Problems]:
    problems = Problems()
    found = {role: (str(path),) for role, path in files.items()}
    return list(catalogue.find(name).read(split, found, problems)), problems


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_coco_is_read_whole(shared: Path, tmp_path: Path) -> None:
    folder = str(shared / "fixtures" / "coco_mini")
    data = DataSection(
        annotations={"coco-captions": folder, "coco-instances": folder}, cache_dir=str(tmp_path)
    )
    tables = {
        (name, split): open_examples(catalogue.find(name), split, data)
        for name in ("coco-captions", "coco-instances")
        for split in ("train2017", "val2017")
    }
    assert all(not table.problems for table in tables.values())
    captions = [len(tables["coco-captions", split]) for split in ("train2017", "val2017")]
    assert sum(captions) == 795
    images, boxes = 0, 0
    for split, size in (("train2017", 288), ("val2017", 281)):
        table = tables["coco-instances", split]
        assert len(table) == size
        images += len(table)
        for example in table:
            assert isinstance(example.label, Boxes)
            assert len(example.label.names) == len(example.label.boxes)
            boxes += len(example.label.boxes) + int(example.about.get("crowd_boxes", 0))
            (image,) = example.image_ids
            assert (shared / f"fixtures/coco_mini/{split}/{int(image):012d}.jpg").is_file()
    assert (images, boxes) == (569, 4662)


def test_coco_instances_are_corners_and_crowds_are_counted(tmp_path: Path) -> None:
    content = {
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [90, 0, 20, 9], "iscrowd": 0},
            {"id": 4, "image_id": 7, "category_id": 1, "bbox": [1, 1, 0, 9], "iscrowd": 0},
            {"id": 5, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 0},
            {"id": 6, "image_id": 7, "category_id": 1},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "images": [
            {"id": 7, "height": 80, "width": 100},
            {"id": 8, "height": 80, "width": 100},
        ],
    }
    path = written(tmp_path / "instances.json", content)
    examples, problems = read("coco-instances", "val2017", {"instances": path})
    assert examples == [
        Example(
            "7", "", ("7",), Boxes(((10.0, 20.0, 40.0, 60.0),), ("dog",)), {"crowd_boxes": "1"}
        ),
        Example("8", "", ("8",), Boxes(())),
    ]
    assert problems.counts == {"bad-box": 2, "no-image": 1, "incomplete": 1}


def test_karpathys_train_has_restval_too(tmp_path: Path) -> None:
    images = [
        {
            "filename": f"COCO_val2014_{number:012d}.jpg",
            "split": split,
            "sentences": [{"raw": f"a {split}", "sentid": number}],
        }
        for number, split in ((1, "train"), (2, "restval"), (3, "test"))
    ]
    path = written(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    examples, problems = read("coco-karpathy", "train", {"captions": path})
    assert [(e.example_id, e.text, e.image_ids) for e in examples] == [
        ("1", "a train", ("1",)),
        ("2", "a restval", ("2",)),
    ]
    assert not problems


def test_visual_genomes_objects_have_attributes(tmp_path: Path) -> None:
    thing = {"object_id": 5, "x": 1, "y": 2, "w": 3, "h": 4, "names": ["tree", "oak"]}
    content = [
        {"image_id": 1, "attributes": [{**thing, "attributes": ["green", "tall"]}, thing]},
        {"image_id": 2, "attributes": [{**thing, "w": 0}]},
        {"image_id": 3},
    ]
    path = written(tmp_path / "attributes.json", content)
    examples, problems = read("vg-attributes", "all", {"objects": path})
    box = (1.0, 2.0, 4.0, 6.0)
    assert examples == [
        Example(
            "1",
            "",
            ("1",),
            Boxes((box, box), ("tree", "tree"), attributes=(("green", "tall"), ())),
        ),
        Example("2", "", ("2",), Boxes(())),
    ]
    assert problems.counts == {"bad-box": 1, "incomplete": 1}
    content = [{"image_id": 1, "objects": [thing]}]
    path = written(tmp_path / "objects.json", content)
    examples, problems = read("vg-objects", "all", {"objects": path})
    assert examples == [Example("1", "", ("1",), Boxes((box,), ("tree",)))]


def test_a_region_description_is_the_phrase_of_its_box(tmp_path: Path) -> None:
    region = {"region_id": 11, "image_id": 1, "phrase": "a red bus ", "x": 5, "y": 6}
    content = [
        {
            "id": 1,
            "regions": [
                {**region, "width": 7, "height": 8},
                {**region, "region_id": 12},
                {**region, "region_id": 13, "width": 7, "height": 8, "phrase": ""},
            ],
        },
        {"id": 2},
    ]
    path = written(tmp_path / "region_descriptions.json", content)
    examples, problems = read("vg-regions", "all", {"regions": path})
    boxes = Boxes(((5.0, 6.0, 12.0, 14.0),), spans=((0, 9),))
    assert examples == [Example("11", "a red bus", ("1",), boxes)]
    assert problems.counts == {"incomplete": 3}


def test_flickr30ks_captions_keep_their_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "results.token", "36979.jpg#0\tA dog .\nno caption\n36979.jpg#1\tB\n")
    examples, problems = read("flickr30k", "all", {"captions": path})
    assert [(e.example_id, e.text, e.image_ids) for e in examples] == [
        ("36979.jpg#0", "A dog .", ("36979",)),
        ("36979.jpg#1", "B", ("36979",)),
    ]
    assert problems.counts == {"broken-line": 1}


ENTITIES = """\
[/EN#1/people Two men] hold [/EN#2/other a long rope] by [/EN#3/scene the sea] .
[/EN#0/notvisual They] pull .
"""

ENTITY_BOXES = """\
<annotation><filename>5.jpg</filename>
<size><width>500</width><height>300</height><depth>3</depth></size>
<object><name>1</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>101</xmax><ymax>201</ymax></bndbox>
</object>
<object><name>1</name><name>2</name>
<bndbox><xmin>21</xmin><ymin>31</ymin><xmax>61</xmax><ymax>71</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""


def test_entities_have_the_boxes_of_their_phrases(tmp_path: Path) -> None:
    files = {
        "images": written(tmp_path / "train.txt", "5\n6\n"),
        "sentences": written(tmp_path / "Sentences" / "5.txt", ENTITIES).parent,
        "boxes": written(tmp_path / "Annotations" / "5.xml", ENTITY_BOXES).parent,
    }
    examples, problems = read("flickr30k-entities", "train", files)
    first, second = (0.0, 10.0, 100.0, 200.0), (20.0, 30.0, 60.0, 70.0)
    assert examples == [
        Example(
            "5#0",
            "Two men hold a long rope by the sea .",
            ("5",),
            Boxes(
                (first, second, second), ("people", "people", "other"), ((0, 7), (0, 7), (13, 24))
            ),
            {"phrases_without_box": "1"},
        ),
        Example("5#1", "They pull .", ("5",), Boxes(()), {"phrases_without_box": "1"}),
    ]
    text = examples[0].text
    assert [text[start:end] for start, end in examples[0].label.spans] == [
        "Two men",
        "Two men",
        "a long rope",
    ]
    assert problems.counts == {"no-annotation": 1}


def references(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=0))
    return path


def test_refcocos_expressions_refer_to_their_object(tmp_path: Path) -> None:
    reference = {
        "ref_id": 3,
        "ann_id": 77,
        "image_id": 9,
        "split": "testA",
        "sentences": [
            {"sent_id": 1, "sent": "left man", "raw": "Left man!"},
            {"sent_id": 2, "sent": "man in red", "raw": "man in red"},
        ],
    }
    other = {**reference, "split": "train", "sentences": [{"sent_id": 3, "sent": "x"}]}
    lost = {**reference, "ann_id": 78, "sentences": [{"sent_id": 4, "sent": "lost"}]}
    files = {
        "references": references(tmp_path / "refs(unc).p", [reference, other, lost]),
        "instances": written(
            tmp_path / "instances.json", {"annotations": [{"id": 77, "bbox": [1.5, 2, 3, 4]}]}
        ),
    }
    examples, problems = read("refcoco", "testA", files)
    box = (1.5, 2.0, 4.5, 6.0)
    assert examples == [
        Example("1", "left man", ("9",), Boxes((box,), spans=((0, 8),)), {"ref_id": "3"}),
        Example("2", "man in red", ("9",), Boxes((box,), spans=((0, 10),)), {"ref_id": "3"}),
    ]
    assert problems.counts == {"incomplete": 1}


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_a_pickle_with_code_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "references": references(tmp_path / "refs(unc).p", [_Harmful()]),
        "instances": written(tmp_path / "instances.json", {"annotations": []}),
    }
    with pytest.raises(ValueError, match="is not allowed"):
        read("refcoco", "val", files)
    assert not capsys.readouterr().out


def test_clevr_refs_objects_are_numbered_from_one(tmp_path: Path) -> None:
    expression = {
        "refexp": "The red cubes",
        "refexp_index": 4,
        "image_index": 0,
        "image_filename": "CLEVR_val_000000.png",
        "program": [{"type": "scene"}, {"type": "filter", "_output": [1, 2]}],
    }
    boxes = {"1": [0, 0, 9, 9], "2": [10, 20, 5, 6], "3": [30, 40, 7, 8]}
    files = {
        "expressions": written(
            tmp_path / "refexps.json",
            {"refexps": [expression, {**expression, "refexp_index": 5, "image_index": 1}]},
        ),
        "scenes": written(
            tmp_path / "scenes.json", {"scenes": [{"image_index": 0, "obj_bbox": boxes}]}
        ),
    }
    examples, problems = read("clevr-ref+", "val", files)
    both = ((10.0, 20.0, 15.0, 26.0), (30.0, 40.0, 37.0, 48.0))
    assert examples == [
        Example("4", "The red cubes", ("CLEVR_val_000000",), Boxes(both, spans=((0, 13), (0, 13))))
    ]
    assert problems.counts == {"incomplete": 1}


def test_a_forms_words_have_their_entitys_label(tmp_path: Path) -> None:
    form = [
        {
            "id": 0,
            "label": "question",
            "linking": [[0, 1]],
            "words": [
                {"text": "Full", "box": [1, 2, 10, 9]},
                {"text": "name:", "box": [12, 2, 20, 9]},
            ],
        },
        {"id": 1, "label": "answer", "words": [{"text": "Ada", "box": [30, 2, 40, 9]}]},
        {"id": 2, "words": []},
    ]
    folder = written(tmp_path / "annotations" / "82092117.json", {"form": form}).parent
    examples, problems = read("funsd", "train", {"forms": folder})
    assert examples == [
        Example(
            "82092117",
            "Full name: Ada",
            ("82092117",),
            Boxes(
                ((1.0, 2.0, 10.0, 9.0), (12.0, 2.0, 20.0, 9.0), (30.0, 2.0, 40.0, 9.0)),
                ("question", "question", "answer"),
                ((0, 4), (5, 10), (11, 14)),
            ),
            {"entities": "0 0 1", "linking": "0-1"},
        )
    ]
    assert problems.counts == {"incomplete": 1}


@pytest.mark.parametrize(
    ("name", "split", "role"),
    [
        ("coco-captions", "val2017", "captions"),
        ("coco-instances", "val2017", "instances"),
        ("vg-objects", "all", "objects"),
        ("vg-regions", "all", "regions"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_keys(
    tmp_path: Path, name: str, split: str, role: str
) -> None:
    path = written(tmp_path / "other.json", {"questions": [], "info": {}})
    with pytest.raises(ValueError, match="questions"):
        read(name, split, {role: path})


def test_a_document_that_is_cut_gives_what_came_before(tmp_path: Path) -> None:
    content = [{"id": n, "regions": [{"region_id": n, "image_id": n, "phrase": "a", "x": 1, "y": 1,
                                      "width": 2, "height": 2}]} for n in range(50)]  # fmt: skip
    text = json.dumps(content)
    path = written(tmp_path / "region_descriptions.json", text[: len(text) // 2])
    examples, problems = read("vg-regions", "all", {"regions": path})
    assert 20 <= len(examples) < 50
    assert problems.counts == {"cut-off": 1}
    assert "breaks off after" in problems.examples["cut-off"][0]


def test_refcocos_texts_of_python_2_are_utf8(tmp_path: Path) -> None:
    reference = {"ref_id": 3, "ann_id": 77, "image_id": 9, "split": "val"}
    sentences = [{"sent_id": 1, "sent": "GOOD"}, {"sent_id": 2, "sent": "BAD"}]
    path = references(tmp_path / "refs(unc).p", [{**reference, "sentences": sentences}])
    # Python 2's str is a STRING of bytes; Python 3 writes UNICODE.
    content = path.read_bytes().replace(b"VGOOD\n", rb"S'caf\xc3\xa9 sign'" + b"\n")
    path.write_bytes(content.replace(b"VBAD\n", rb"S'caf\xe9'" + b"\n"))
    boxes = {"annotations": [{"id": 77, "bbox": [1, 2, 3, 4]}]}
    files = {"references": path, "instances": written(tmp_path / "instances.json", boxes)}
    examples, problems = read("refcoco", "val", files)
    assert [example.text for example in examples] == ["caf\u00e9 sign"]
    assert "sent is not UTF-8" in problems.examples["incomplete"][0]
