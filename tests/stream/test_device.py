"""A GPU without enough memory, or one that broke: what becomes of the batch and of the process."""

from __future__ import annotations

import logging
import weakref
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from vlray.cluster.expendable import ChildEndedError, ChildError
from vlray.cluster.journal import ClusterJournal, Journal
from vlray.config.detector import DetectorSection
from vlray.detect.protocol import DetectorInfo
from vlray.regions.batch import RegionBatch
from vlray.stream import attempts, detector
from vlray.stream.attempts import Attempts
from vlray.stream.detector import LoadedDetector, SeparateDetector
from vlray.stream.device import DeviceError


class Model:
    """A detector whose GPU has memory for two images, or which breaks its GPU."""

    def __init__(self) -> None:
        self.info = DetectorInfo("model", 1)
        self.batches: list[int] = []
        self.tensors: list[weakref.ref[Any]] = []
        self.most, self.error = 2, torch.OutOfMemoryError("CUDA out of memory")

    def __call__(self, images: list[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        self.batches.append(len(images))
        tensor = torch.zeros(1)
        self.tensors.append(weakref.ref(tensor))
        if len(images) > self.most:
            raise self.error
        num = np.ones(len(images), np.int32)
        boxes = np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(images), 1))
        feats = np.array([[image.mean()] for image in images], np.float32)
        return RegionBatch(image_hw, num, boxes, feats)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    made = Model()
    monkeypatch.setattr(detector, "load_detector", lambda options: made)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return made


def rows(count: int) -> list[dict[str, Any]]:
    image = np.zeros((4, 6, 3), np.uint8)
    row = {"image_height": 4, "image_width": 6, "boxes": None}
    return [row | {"image_id": f"{i}", "image": image + i} for i in range(count)]


def loaded(batch_size: int) -> LoadedDetector:
    options = DetectorSection(batch_size=batch_size)
    return LoadedDetector(options, torch.get_num_threads(), None)


def test_out_of_memory_frees_halves_and_is_remembered(model, monkeypatch, caplog) -> None:
    alive: list[bool] = []
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: alive.append(model.tensors[-1]() is not None)
    )
    work, found = (
        Attempts(Journal(), "work", 1, lambda s: nullcontext(), lambda rows: None),
        loaded(8),
    )
    with caplog.at_level(logging.WARNING):
        results = work.detect(rows(10), found)
    assert [float(r.visual_feats[0, 0]) for r in results] == [*map(float, range(10))]
    assert model.batches == [8, 4, 2, 2, 2, 2, 2]
    assert alive == [False, False]  # the failed pass had been freed before
    assert "too little memory for 8 images of 6x4 pixels at once; from now on" in caplog.text
    model.batches.clear()
    work.detect(rows(4), found)  # the next shard
    assert model.batches == [2, 2]


def test_an_image_that_fits_in_no_batch_fails_alone(model, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    model.most = 0
    work = Attempts(Journal(), "work", 1, lambda s: nullcontext(), lambda rows: None)
    results = work.detect(rows(2), loaded(2))
    assert [type(result) for result in results] == [torch.OutOfMemoryError] * 2


def test_a_broken_gpu_ends_the_actor_and_no_image_fails(model, monkeypatch, caplog) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    monkeypatch.setattr(attempts.os, "_exit", end)
    model.most, model.error = 0, RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR")
    on_ray = ClusterJournal(None, "run")
    work = Attempts(on_ray, "work", 1, lambda s: nullcontext(), lambda rows: None)
    with pytest.raises(SystemExit), caplog.at_level(logging.ERROR):
        work.detect(rows(2), loaded(2))
    assert "CUDA error: an illegal memory access was encountered" in caplog.text
    with pytest.raises(DeviceError, match="illegal memory access"):  # without Ray, the run ends
        Attempts(Journal(), "work", 1, lambda s: nullcontext(), lambda rows: None).detect(
            rows(2), loaded(2)
        )


def test_a_child_that_lost_its_gpu_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []

    class Child:
        def call(self, name: str, *args: Any, units: int = 1) -> Any:
            if name == "__call__":
                raise ChildError("DeviceError", "CUDA error: unspecified launch failure")
            return 4

        def close(self) -> None:
            closed.append(True)

    monkeypatch.setattr(detector, "Expendable", lambda *args, **options: Child())
    separate = SeparateDetector(DetectorSection(), 1, None, seconds=1, memory_gib=1)
    with pytest.raises(ChildEndedError, match="unspecified launch failure"):
        separate(rows(2))
    assert closed == [True]
