"""How good and how fast ``lite`` is, on the val2017 images of a folder in COCO's layout.

    python tests/benchmarks/lite_accuracy.py --data COCO

AP50: of its regions, 100 an image, each with its best class. AR@36, AR@100: of its proposals, at
IoU 0.5, whatever the class. Seconds: the detector's call, one image at a time, two threads.
A sanity ruler: FastestDet, trained on all 118,000 images of COCO 2017, has an AP50 of 25.3.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.structures import Instances
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vlray.config.detector import DetectorSection
from vlray.detect.lite.detector import Lite

FIXTURE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "coco_mini"
Row = dict[str, object]


def main() -> None:
    """Read the options, run the detector over the images, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FIXTURE)
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[""],
        help="default: the file in the package; of N files, each sees every N-th image: those that "
        "its training left out (jobs/refit_lite.py --fold)",
    )
    parser.add_argument("--min-size", type=int, default=0, help="pixels; 0: lite's own")
    parser.add_argument("--max-size", type=int, default=0)
    parser.add_argument("--images", type=int, default=0, help="use only this many; 0: all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    options = DetectorSection(
        min_size=args.min_size,
        max_size=args.max_size,
        min_boxes=100,
        max_boxes=100,
        device="cpu",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(args.data / "annotations" / "instances_val2017.json")
    image_ids = sorted(coco.imgs)[: args.images or None]
    regions: list[Row] = []
    proposals: list[Row] = []
    seconds: list[float] = []
    for fold, weights in enumerate(args.weights):
        of_fold = image_ids[fold :: len(args.weights)]
        with_weights = options.model_copy(update={"weights": weights})
        rows = run(coco, of_fold, args.data / "val2017", with_weights)
        for joined, part in zip((regions, proposals, seconds), rows, strict=True):
            joined += part  # type: ignore[arg-type]
    ap50 = evaluate(coco, image_ids, regions, "AP", 100)
    ap50_36 = evaluate(coco, image_ids, regions, "AP", 36)
    recalls = [evaluate(coco, image_ids, proposals, "AR", limit) for limit in (36, 100)]
    region_recalls = [evaluate(coco, image_ids, regions, "AR", limit) for limit in (36, 100)]
    size = Lite.resize(options)
    print(f"{len(image_ids)} images of val2017, {size.min_size}/{size.max_size} pixels")
    print("AP50   AP50 of 36   AR@36   AR@100   AR@36, AR@100 of regions   s/image (median, p95)")
    print(
        f"{ap50:.3f}  {ap50_36:.3f}        {recalls[0]:.3f}   {recalls[1]:.3f}    "
        f"{region_recalls[0]:.3f}, {region_recalls[1]:.3f}               "
        f"{np.median(seconds):.3f}, {np.quantile(seconds, 0.95):.3f}"
    )


def run(
    coco: COCO, image_ids: list[int], folder: Path, options: DetectorSection
) -> tuple[list[Row], list[Row], list[float]]:
    """Give regions and proposals in COCO's result format, and the seconds of each call."""
    detector, resize = Lite(options), Lite.resize(options)
    seen: list[Instances] = []
    detector.model.proposal_generator.register_forward_hook(
        lambda _module, _inputs, output: seen.extend(output[0])
    )
    category_ids = sorted(coco.getCatIds())
    regions: list[Row] = []
    proposals: list[Row] = []
    seconds = []
    for image_id in image_ids:
        with Image.open(folder / coco.imgs[image_id]["file_name"]) as file:
            image = np.asarray(file.convert("RGB"))[:, :, ::-1]
        resized = resize(image)
        start = time.perf_counter()
        found = detector([resized], np.array([image.shape[:2]], np.int32))
        seconds.append(time.perf_counter() - start)
        assert found.obj_ids is not None
        assert found.obj_probs is not None
        classes = [category_ids[index] for index in found.obj_ids]
        regions += _rows(image_id, found.boxes, found.obj_probs, classes)
        scale = np.array(image.shape[1::-1]) / resized.shape[1::-1]
        boxes = seen[-1].proposal_boxes.tensor.numpy() * np.tile(scale, 2)
        scores = seen[-1].objectness_logits.numpy()
        proposals += _rows(image_id, boxes, scores, [category_ids[0]] * len(boxes))
    return regions, proposals, seconds


def evaluate(coco: COCO, image_ids: list[int], rows: list[Row], what: str, limit: int) -> float:
    """Give AP or, over all classes together, recall at IoU 0.5 of so many boxes an image."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.params.imgIds = image_ids
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.maxDets = [limit]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.useCats = int(what == "AP")
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval["precision" if what == "AP" else "recall"]
    return float(values[values > -1].mean())


def _rows(
    image_id: int, boxes: np.ndarray, scores: np.ndarray, category_ids: list[int]
) -> list[Row]:
    sides = boxes[:, 2:] - boxes[:, :2]
    xywh = np.concatenate([boxes[:, :2], sides], axis=1)
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for category, box, score in zip(category_ids, xywh.tolist(), scores.tolist(), strict=True)
    ]


if __name__ == "__main__":
    main()
