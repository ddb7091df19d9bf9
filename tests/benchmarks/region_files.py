"""One content in two forms: an output of vlray with questions, and LXMERT's TSV with the same.

Made-up images of 36 regions with 2048 numbers each, distributed as a detector's are after its
ReLU; made-up questions in LXMERT's own JSON, which vlray reads as well.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
from tqdm import tqdm

from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table
from vlray.storage import files

COUNT, DIM = 36, 2048
SHARD = 32
ANSWERS = 3129
POOL = 64  # images' vectors that are drawn; the others are these, shifted

WORDS = """
what color is the man woman dog cat red blue left right of on in how many people are there holding
wearing table street sign playing standing sitting next to behind front umbrella
""".split()  # noqa: SIM905 - one word after the other is easier to read

DATASET = """\
name: bench-vqa
title: Made-up questions
purposes: [question answering]
layout: lxmert
image_set: coco
id_rule: coco
labels: answers
soft_score: exact
metric: vqa accuracy
splits:
  train: {files: {questions: vqa/train.json}}
"""


def image_name(image: int) -> str:
    """Give an image's id in LXMERT's files; vlray's is the number."""
    return f"COCO_train2014_{image + 1:012d}"


def make(work: Path, images: int, questions: int, *, tsv: bool) -> None:
    """Write all files below ``work``, those that are not there yet."""
    _questions(work, images, questions)
    if not (work / "regions" / parts.SETTINGS).exists():
        _output(work / "regions", images)
    target = work / "data" / "mscoco_imgfeat" / "train2014_obj36.tsv"
    if tsv and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _tsv(target, images)


def regions_of(images: int) -> Iterator[RegionBatch]:
    """Yield the images one after the other."""
    rng = np.random.default_rng(0)
    drawn = np.maximum(rng.normal(0.2, 1, (POOL, COUNT, DIM)), 0).astype(np.float16)
    for image in range(images):
        corner, side = rng.uniform(0, 300, (COUNT, 2)), rng.uniform(16, 170, (COUNT, 2))
        yield RegionBatch(
            image_hw=np.array([[480, 640]], np.int32),
            num_boxes=np.array([COUNT], np.int32),
            boxes=np.concatenate([corner, corner + side], axis=1).astype(np.float32),
            visual_feats=np.roll(drawn[image % POOL], 7 * (image // POOL), axis=1),
            obj_ids=rng.integers(0, 1600, COUNT).astype(np.int32),
            obj_probs=rng.uniform(0.01, 1, COUNT).astype(np.float32),
            attr_ids=rng.integers(0, 400, COUNT).astype(np.int32),
            attr_probs=rng.uniform(0.01, 1, COUNT).astype(np.float32),
        )


def _output(out: Path, images: int) -> None:
    fs = pafs.LocalFileSystem()
    about = {
        "schema_version": 1,
        "vlray_version": "0.1.0",
        "dataset": "made-up",
        "images_root": "",
        "detector": {"name": "made-up"},
        "settings": {},
    }
    schema = regions_schema(DIM, "float16", about)
    source = regions_of(images)
    for begin in tqdm(range(0, images, SHARD), desc="output", unit="part", disable=None):
        numbers = range(begin, min(begin + SHARD, images))
        batch = RegionBatch.concat([next(source) for _ in numbers])
        ids = [str(number + 1) for number in numbers]
        paths = [f"{image_name(number)}.jpg" for number in numbers]
        table = to_table(batch, ids, paths, [""] * len(ids), schema)
        path = out / parts.REGIONS / parts.part_name(begin // SHARD)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parts.encode_regions(table, "zstd"))
    labels = {
        "obj_names": [f"object {index}" for index in range(1600)],
        "attr_names": [f"attribute {index}" for index in range(400)],
    }
    files.write_atomic(fs, str(out / parts.LABELS), json.dumps(labels).encode())
    files.write_atomic(fs, str(out / parts.SETTINGS), json.dumps(about).encode())  # last: complete


def _tsv(path: Path, images: int) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        for image, regions in enumerate(
            tqdm(regions_of(images), total=images, desc="TSV", unit="image", disable=None)
        ):
            assert regions.obj_ids is not None
            assert regions.attr_ids is not None
            arrays = [
                regions.obj_ids.astype("<i8"),
                regions.obj_probs,
                regions.attr_ids.astype("<i8"),
                regions.attr_probs,
            ]
            wide = [regions.boxes, regions.visual_feats.astype("<f4")]
            fields = [image_name(image).encode(), b"480", b"640"]
            fields += [base64.b64encode(np.ascontiguousarray(array)) for array in arrays]
            fields += [b"%d" % COUNT, *(base64.b64encode(array) for array in wide)]
            stream.write(b"\t".join(fields) + b"\n")
    temporary.replace(path)


def _questions(work: Path, images: int, questions: int) -> None:
    folder = work / "data" / "vqa"
    if (folder / "train.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    answers = [f"answer {index}" for index in range(ANSWERS)]
    data = [
        {
            "answer_type": "other",
            "img_id": image_name(int(image)),
            "label": {answers[int(a)]: 1.0 if not n else 0.3 for n, a in enumerate(chosen)},
            "question_id": number,
            "question_type": "what",
            "sent": " ".join(WORDS[int(w)] for w in words) + "?",
        }
        for number, (image, chosen, words) in enumerate(
            zip(
                rng.integers(0, images, questions),
                rng.integers(0, ANSWERS, (questions, 2)),
                rng.integers(0, len(WORDS), (questions, 7)),
                strict=True,
            )
        )
    ]
    ids = {answer: index for index, answer in enumerate(answers)}
    (folder / "trainval_ans2label.json").write_text(json.dumps(ids))
    (folder / "trainval_label2ans.json").write_text(json.dumps(answers))
    (work / "datasets").mkdir(exist_ok=True)
    (work / "datasets" / "bench-vqa.yaml").write_text(DATASET)
    (folder / "train.json").write_text(json.dumps(data))
