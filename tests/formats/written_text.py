"""Lines of the text forms as their producers write them, for the tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

DIM = 8


def b64(values: Any, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind)).decode()


class Image:
    """Made-up regions of one image, all inside it, the first of them as large as it is."""

    def __init__(
        self, image_id: str, hw: tuple[int, int] = (480, 640), count: int = 5, dim: int = DIM
    ) -> None:
        rng = np.random.default_rng(list(image_id.encode()))
        self.image_id, self.hw = image_id, hw
        height, width = hw
        corners = rng.uniform(0, 0.5, (count, 2)), rng.uniform(0.6, 0.99, (count, 2))
        self.boxes = np.concatenate([part * [width, height] for part in corners], 1).astype("f4")
        if count:
            self.boxes[0] = [0, 0, width - 1, height - 1]
        self.feats = np.float32(np.float16(rng.random((count, dim)) * 4))
        self.objects = rng.integers(1, 1600, count)
        self.object_probs = np.sort(rng.uniform(0.1, 1, count).astype("f4"))[::-1]
        self.attributes = rng.integers(1, 400, count)
        self.attribute_probs = rng.uniform(0.1, 1, count).astype("f4")

    def tsv10(self, **changed: Any) -> str:
        """The line of ten columns; a keyword replaces a field."""
        fields = {
            "img_id": self.image_id,
            "img_h": self.hw[0],
            "img_w": self.hw[1],
            "objects_id": b64(self.objects, "<i8"),
            "objects_conf": b64(self.object_probs, "<f4"),
            "attrs_id": b64(self.attributes, "<i8"),
            "attrs_conf": b64(self.attribute_probs, "<f4"),
            "num_boxes": len(self.boxes),
            "boxes": b64(self.boxes, "<f4"),
            "features": b64(self.feats, "<f4"),
        }
        return "\t".join(str(value) for value in (fields | changed).values()) + "\r\n"

    def tsv6(self, **changed: Any) -> str:
        fields = {
            "image_id": self.image_id,
            "image_w": self.hw[1],
            "image_h": self.hw[0],
            "num_boxes": len(self.boxes),
            "boxes": b64(self.boxes, "<f4"),
            "features": b64(self.feats, "<f4"),
        }
        return "\t".join(str(value) for value in (fields | changed).values()) + "\r\n"

    def vinvl(self, words: Sequence[str], attributes: Sequence[str] = ()) -> str:
        """The line of predictions.tsv; words are taken in turn."""
        objects = [
            {
                "rect": box.tolist(),
                "bbox_id": index,
                "class": words[index % len(words)],
                "conf": float(self.object_probs[index]),
                "feature": b64(self.feats[index], "<f4"),
            }
            | (
                {"attributes": list(attributes), "attr_scores": [0.1, 0.7, 0.2][: len(attributes)]}
                if attributes
                else {}
            )
            for index, box in enumerate(self.boxes)
        ]
        return f"{self.image_id}\t{json.dumps({'objects': objects, 'relations': None})}\n"


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(lines), newline="")
    return path
