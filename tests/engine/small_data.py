"""Regions and questions that a model can learn within seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table
from vlray.storage import files


def write_regions(out: Path, *, images: int, dim: int, name: str = "image") -> None:
    """Write an output; image n has n % 4 + 1 regions, whose vectors say whether n is even."""
    about = {"vlray_version": "0.1.0", "schema_version": 1, "detector": {"name": "lite"}}
    about |= {"dataset": "made", "images_root": "/photographs", "settings": {}}
    (out / parts.REGIONS).mkdir(parents=True)
    (out / parts.SETTINGS).write_text(json.dumps(about))
    numbers = np.arange(images)
    counts = (numbers % 4 + 1).astype(np.int32)
    rng, regions = np.random.default_rng(0), int(counts.sum())
    feats = rng.random((regions, dim), np.float32)
    feats[:, 0] = np.repeat(numbers % 2, counts)
    corners = np.sort(rng.random((regions, 2, 2), np.float32), axis=1).reshape(-1, 4)
    batch = RegionBatch(
        image_hw=np.tile(np.array([[100, 200]], np.int32), (images, 1)),
        num_boxes=counts,
        boxes=corners * np.array([200, 100, 200, 100], np.float32),
        visual_feats=feats,
        obj_ids=rng.integers(0, 9, regions).astype(np.int32),
        obj_probs=rng.random(regions, np.float32),
    )
    names = [f"{name}{number}" for number in numbers]
    schema = regions_schema(dim, "float16", about | {"detector_name": "lite"})
    table = to_table(batch, names, names, [""] * images, schema)
    fs, path = files.resolve(out / parts.REGIONS / parts.part_name(0))
    files.write_atomic(fs, path, parts.encode_regions(table, "zstd"))


def write_questions(folder: Path, *, images: int, train: int, test: int) -> None:
    """Write VQA-RAD's files: is the number of the image even, or odd?"""
    folder.mkdir(parents=True)
    for name, first, count in (("trainset.json", 0, train), ("testset.json", train, test)):
        entries = []
        for number in range(first, first + count):
            image, word = number * 7 % images, ("even", "odd")[number % 3 == 0]
            is_right = (image % 2 == 0) == (word == "even")
            entries.append(
                {
                    "qid": number,
                    "image_name": f"image{image}.jpg",
                    "question": f"is it {word}{', or do you see it otherwise' * (number % 2)}?",
                    "answer": "yes" if is_right else "no",
                    "answer_type": "CLOSED",
                    "question_type": "PRES",
                    "phrase_type": "freeform",
                    "image_organ": "HEAD",
                }
            )
        (folder / name).write_text(json.dumps(entries))
