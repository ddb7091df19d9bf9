"""A small world to test models in: photographs, their regions, official files and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.loader.conftest import write_output
from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.config.model import ModelSection
from vlray.config.test import TestConfig
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_model, model_class
from vlray.models.protocol import Goal
from vlray.regions.provenance import provenance_of
from vlray.regions.store import open_store

DIM = 8
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
LAYERS = {
    "lxmert": SIZES | {"l_layers": 1, "r_layers": 1, "x_layers": 1},
    "visualbert": SIZES | {"num_hidden_layers": 1},
}

COCO = [str(number) for number in range(1, 13)]
PAIRS = [f"dev-{pair // 2}-{pair % 2}-img{side}" for pair in range(6) for side in (0, 1)]

VQA = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"


class World:
    """A folder with regions of real files, and the annotations of some datasets.

    ``vqa:val`` has 24 questions about 12 images, of which half are answered with yes, ``vqa:test``
    two questions without answers, ``nlvr2:dev`` six sentences about two pairs each,
    ``flickr30k-entities:test`` two captions of each of the 12, of which one has two phrases;
    ``vcr-qa:val`` has a question about each with four answers.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.images = root, root / "images"
        self.regions = write_output(str(root / "regions"), COCO + PAIRS, dim=DIM)
        self.images.mkdir()
        for number, name in enumerate(COCO + PAIRS):
            pixels = np.full((100, 200, 3), 60 + 6 * number, np.uint8)
            pixels[20:70, 30:120] = (200, 120, 40)
            Image.fromarray(pixels).save(self.images / name, "JPEG")
        self._write_vqa(root / "vqa")
        self._write_nlvr2(root / "nlvr2")
        self._write_entities(root / "flickr30k-entities")
        self._write_vcr(root / "vcr-qa")

    def _write_vqa(self, folder: Path) -> None:
        folder.mkdir()
        questions, annotations = [], []
        for number in range(24):
            ids = {"question_id": 1000 + number, "image_id": number // 2 + 1}
            is_closed = number % 2 == 0
            text = "Is it red?" if is_closed else "What colour is the <b>thing</b>?"
            answers = ["yes"] * 10 if is_closed else ["red"] * 2 + ["blue"] * 7 + ["teal"]
            questions.append(ids | {"question": text})
            annotations.append(
                ids
                | {
                    "question_type": "is it" if is_closed else "what color",
                    "answer_type": "yes/no" if is_closed else "other",
                    "multiple_choice_answer": "yes" if is_closed else "blue",
                    "answers": [
                        {"answer": answer, "answer_id": i + 1, "answer_confidence": "yes"}
                        for i, answer in enumerate(answers)
                    ],
                }
            )
        for name, content in zip(
            VQA, ({"questions": questions}, {"annotations": annotations}), strict=True
        ):
            (folder / name).write_text(json.dumps(content))
        test = folder / "v2_OpenEnded_mscoco_test2015_questions.json"
        test.write_text(json.dumps({"questions": questions[:2]}))

    def _write_nlvr2(self, folder: Path) -> None:
        folder.mkdir()
        lines = [
            {
                "identifier": f"dev-{pair // 2}-{pair % 2}-{sentence}",
                "sentence": f"There are {sentence + 1} things.",
                "label": str((pair + sentence) % 2 == 0),
                "synset": "thing",
                "query": "things",
            }
            for pair in range(6)
            for sentence in (0, 1)
        ]
        (folder / "dev.json").write_text("\n".join(map(json.dumps, lines)))

    def _write_vcr(self, folder: Path) -> None:
        folder.mkdir()
        lines = [
            {
                "annot_id": f"val-{number}",
                "img_fn": f"{image}.jpg",
                "metadata_fn": f"{image}.json",
                "objects": ["person"],
                "question": ["Why", "is", [0], "here", "?"],
                "answer_choices": [["Because", "of", word] for word in ("a", "b", "c", "d")],
                "answer_label": number % 4,
            }
            for number, image in enumerate(COCO)
        ]
        (folder / "val.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def _write_entities(self, folder: Path) -> None:
        (folder / "Sentences").mkdir(parents=True)
        (folder / "Annotations").mkdir()
        (folder / "test.txt").write_text("\n".join(COCO))
        store = open_store(self.regions, self.root / "cache")
        boxes = np.empty((1, 1, 4), np.float32)
        for image in COCO:
            store.read_boxes(store.rows([image]), boxes)  # of the first region: it can be found
            corners = [[1, 1, 4, 4], (boxes[0, 0] + 1).tolist()]  # these files count from 1
            objects = "".join(
                f"<object><name>{number}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
                f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
                for number, box in enumerate(corners, 1)
            )
            text = "[/EN#1/people A man] holds [/EN#2/other a red ball] up .\nNobody is here ."
            (folder / "Sentences" / f"{image}.txt").write_text(text)
            size = "<size><width>200</width><height>100</height></size>"
            xml = f"<annotation>{size}{objects}</annotation>"
            (folder / "Annotations" / f"{image}.xml").write_text(xml)

    def checkpoint(self, name: str, goal: Goal, *, prefers: int | None = None, **about: Any) -> str:
        """Write a checkpoint of a tiny model with random numbers.

        Args:
            name: ``lxmert`` or ``visualbert``.
            goal: What it was made for.
            prefers: A label whose bias is far above the others'; None: as it is drawn.
            about: Further values of its `CheckpointInfo`.
        """
        options = ModelSection(name=name, architecture=LAYERS[name])
        loader = LoaderSection(**model_class(options, goal).loader_defaults(options, goal))
        if goal.objective in ("pretraining", "matching"):
            rate = 0.15 if goal.objective == "pretraining" else 0
            masks = PretrainingSection(token_rate=rate, region_rate=rate)
            loader = loader.model_copy(update={"pretraining": masks})
        torch.manual_seed(0)
        model = load_model(options, goal)
        if prefers is not None:
            bias = [value for value in model.parameters() if value.shape == (len(goal.labels),)]
            with torch.no_grad():
                bias[-1][prefers] += 50
        folder = self.root / f"{name}-{goal.objective}-{len(goal.labels)}-{prefers}"
        folder.mkdir(exist_ok=True)
        model.save(folder)
        store = open_store(self.regions, self.root / "cache")
        values = {
            "vlray_version": "0.1.0",
            "model": options,
            "goal": goal,
            "loader": loader,
            "corpus": "vqa:train",
            "regions": {"": self.regions},
            "provenance": {"": provenance_of(store)},
            "step": 7,
        }
        CheckpointInfo(**values | about).write(folder)
        return str(folder)

    def config(self, checkpoint: str, corpus: str, **options: Any) -> TestConfig:
        """Give the settings of a test."""
        values = {
            "checkpoint": checkpoint,
            "corpus": corpus,
            "images_root": str(self.images),
            "batch_size": 5,
            "data": {"root": str(self.root), "cache_dir": str(self.root / "cache")},
        }
        return TestConfig.model_validate(values | options)


ANSWERS = Goal("labels", DIM, ("blue", "no", "red", "yes"), soft=True)
TRUTH = Goal("labels", DIM, ("False", "True"), num_images=2, classes=True)
