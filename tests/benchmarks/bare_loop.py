"""The bare loop that the pipeline is measured against: one process, one detector, no Ray.

Each photograph in turn: read, decode, resize, detect, keep the regions in memory. With
``--batch-size`` above 1, photographs of one size wait for each other, as in the pipeline.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from vlray.config.detector import DetectorSection
from vlray.detect.load import load_detector, resize_of
from vlray.images.decode import decode
from vlray.regions.batch import RegionBatch


def main() -> None:
    """Run the loop and print its seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = DetectorSection(device="cpu")
    detector, resize = load_detector(options), resize_of(options)
    assert resize is not None
    waiting: dict[tuple[int, ...], list[tuple[np.ndarray, tuple[int, int]]]] = {}
    kept: list[RegionBatch] = []
    detecting = 0.0
    files = sorted(args.folder.iterdir())

    def detect(group: list[tuple[np.ndarray, tuple[int, int]]]) -> None:
        nonlocal detecting
        began = time.perf_counter()
        image_hw = np.array([hw for _, hw in group], np.int32)
        kept.append(detector([image for image, _ in group], image_hw))
        detecting += time.perf_counter() - began

    began, cpu = time.perf_counter(), time.process_time()
    for file in files:
        image = decode(file.read_bytes())
        resized = resize(image)
        group = waiting.setdefault(resized.shape, [])
        group.append((resized, image.shape[:2]))
        if len(group) == args.batch_size:
            detect(waiting.pop(resized.shape))
    for group in waiting.values():
        detect(group)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert sum(len(batch.num_boxes) for batch in kept) == len(files)
    times = {"seconds": seconds, "cpu": cpu, "detecting": detecting}
    print(json.dumps({"images": len(files)} | times))


if __name__ == "__main__":
    main()
