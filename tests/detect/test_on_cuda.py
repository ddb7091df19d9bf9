"""Every family of detectors on a pretended CUDA device, and what it would ask of a real one.

The ceilings keep loops over classes, boxes and images from coming back: thousands of launches and
a wait for each box cost a GPU most of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from tests.detect.detectron_networks import write_network
from tests.fixtures.pretended_cuda import Counts, MixedDevicesError, pretended_cuda
from vlray.config.detector import DetectorSection
from vlray.detect.d2.detector import Detectron
from vlray.detect.device import device_of
from vlray.detect.lite.detector import Lite
from vlray.detect.protocol import Detector
from vlray.detect.selection import select_regions
from vlray.detect.transfer import stacked, to_device
from vlray.detect.visual_genome import model
from vlray.detect.visual_genome.detector import VgCaffe, VgDetector, VgPbua
from vlray.detect.visual_genome.model import VgNetwork, build_vg
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.regions.batch import RegionBatch

HW = np.array([(300, 400)] * 2, np.int32)
BOXES = [
    np.array([[1, 2, 150, 160], [3, 3, 390, 200]], np.float32),
    np.array([[5, 2, 150, 260]], np.float32),
]


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Return two photographs of one size, BGR."""
    crops = (skimage.data.astronaut()[20:320, 60:460], skimage.data.coffee()[60:360, 100:500])
    return [np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops]


@pytest.fixture(scope="module")
def narrow() -> Iterator[None]:
    """Let Visual Genome's network have one narrow block in each stage."""
    stage, block = model._stage, model.BottleneckBlock

    def one_block(blocks: int, *args: Any, **more: Any) -> Any:
        return stage(1, *args, **more)

    def narrow_block(*args: Any, bottleneck_channels: int, **more: Any) -> Any:
        return block(*args, bottleneck_channels=16, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_stage", one_block)
        patch.setattr(model, "BottleneckBlock", narrow_block)
        yield


@pytest.fixture(scope="module")
def make_vg(narrow: None):
    """Return a function that builds a small network on a device, with its conventions."""
    torch.manual_seed(0)
    state = VgNetwork(with_attributes=True).state_dict()

    def make(kind: type[VgDetector], device: str, precision: str, **options: Any) -> RegionFinder:
        section = DetectorSection(name=kind.name, post_nms_topk=6, **options)
        return RegionFinder(build_vg(state, precision, device), kind.rules(section), section)

    return make


def counted(counts: Counts, call: Callable[[], RegionBatch]) -> tuple[RegionBatch, int, int]:
    """Return a result, and the launches and waits of a call that is not the first."""
    call()
    counts.reset()
    return call(), sum(counts.launches.values()), sum(counts.waits.values())


def assert_close(one: RegionBatch, two: RegionBatch, *, tolerance: float = 1e-3) -> None:
    np.testing.assert_array_equal(one.num_boxes, two.num_boxes)
    np.testing.assert_allclose(one.boxes, two.boxes, rtol=1e-3, atol=0.05)
    scale = np.abs(two.visual_feats).max()
    assert np.abs(one.visual_feats - two.visual_feats).max() <= tolerance * scale


@pytest.mark.parametrize("kind", [VgCaffe, VgPbua])
def test_visual_genome_computes_on_the_gpu(kind, make_vg, photographs) -> None:
    small = {"min_size": 64, "max_size": 96, "min_boxes": 3, "max_boxes": 5}
    images = [kind.resize(DetectorSection(**small))(image) for image in photographs]
    on_cpu = make_vg(kind, "cpu", "fp32", **small)
    expected = on_cpu(images, HW)
    with pretended_cuda() as counts:
        on_gpu = make_vg(kind, "cuda", "fp32", **small)
        found, launches, waits = counted(counts, lambda: on_gpu(images, HW))
        assert_close(found, expected)
        assert waits <= len(images) + 2, counts.waits  # NMS of each; the selection; the result
        assert launches <= 165, counts.launches
        counts.reset()
        assert on_gpu(images[:1], HW[:1]).num_boxes[0] == expected.num_boxes[0]
        assert sum(counts.waits.values()) <= 3, counts.waits
        found, launches, waits = counted(counts, lambda: on_gpu.pool_boxes(images, HW, BOXES))
        assert_close(found, on_cpu.pool_boxes(images, HW, BOXES))
        assert (launches <= 90, waits) == (True, 1), counts.waits


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_half_precision_mixes_no_devices(precision, make_vg, photographs) -> None:
    small = {"min_size": 64, "max_size": 96, "min_boxes": 3, "max_boxes": 5}
    images = [VgPbua.resize(DetectorSection(**small))(image) for image in photographs]
    expected = make_vg(VgPbua, "cpu", "fp32", **small).pool_boxes(images, HW, BOXES)
    with pretended_cuda():
        found = make_vg(VgPbua, "cuda", precision, **small).pool_boxes(images, HW, BOXES)
    assert_close(found, expected, tolerance=0.05)
    assert (found.visual_feats != expected.visual_feats).any() or precision == "tf32"


@pytest.mark.parametrize("layer", ["res5", "c4"])
def test_grids_of_visual_genome(layer, make_vg, photographs) -> None:
    options = {"features": "grid", "grid_layer": layer, "grid_size": 3}
    small = {"min_size": 64, "max_size": 96}
    images = [VgCaffe.resize(DetectorSection(**small))(image) for image in photographs]
    expected = make_vg(VgCaffe, "cpu", "fp32", **options).grid(images, HW)
    with pretended_cuda() as counts:
        finder = make_vg(VgCaffe, "cuda", "bf16", **options)
        found, launches, waits = counted(counts, lambda: finder.grid(images, HW))
    assert_close(found, expected, tolerance=0.05)
    assert (launches <= 60, waits) == (True, 1), counts.waits


def assert_modes_work(
    make: Callable[[str], Detector],
    images: list[np.ndarray],
    *,
    launches: int,
    waits: int,
) -> None:
    """Compare a detector on the GPU with itself on the CPU, and count for two images."""
    expected: Any = make("cpu")
    with pretended_cuda() as counts:
        detector: Any = make("cuda")
        found, launched, waited = counted(counts, lambda: detector(images, HW))
        assert_close(found, expected(images, HW))
        assert launched <= launches, counts.launches
        assert waited <= waits, counts.waits
        assert_close(detector.pool_boxes(images, HW, BOXES), expected.pool_boxes(images, HW, BOXES))


def test_lite_computes_on_the_gpu(photographs) -> None:
    def make(device: str) -> Lite:
        return Lite(DetectorSection(device=device, min_boxes=5, max_boxes=10))

    resize = Lite.resize(DetectorSection(min_size=96, max_size=128))
    images = [resize(image) for image in photographs]
    assert_modes_work(make, images, launches=600, waits=80)


@pytest.mark.parametrize("kind", ["C4", "FPN", "cascade"])
def test_detectron_computes_on_the_gpu(kind: str, photographs, tmp_path: Path) -> None:
    network = write_network(tmp_path, kind)

    def make(device: str, **values: Any) -> Detectron:
        return Detectron(network.options(device=device, min_boxes=5, max_boxes=10, **values))

    images = [Detectron.resize(network.options())(image) for image in photographs]
    assert_modes_work(make, images, launches=1200, waits=100)
    with pretended_cuda():
        found = make("cuda", features="grid").grid(images, HW)
    assert_close(found, make("cpu", features="grid").grid(images, HW))


def test_the_selection_waits_twice_whatever_the_number_of_proposals() -> None:
    generator = np.random.default_rng(0)
    corners = generator.random((300, 2)) * 400
    boxes = np.hstack([corners, corners + 30 + generator.random((300, 2)) * 200])
    probs = torch.from_numpy(generator.random((300, 80)).astype(np.float32))
    tensor = torch.from_numpy(boxes.astype(np.float32))
    options = DetectorSection()
    expected = select_regions(tensor, probs, options)
    with pretended_cuda() as counts:
        ours = (tensor.to("cuda"), probs.to("cuda"))
        counts.reset()
        found = select_regions(*ours, options)
        assert sum(counts.waits.values()) <= 1, counts.waits
        assert sum(counts.launches.values()) <= 12, counts.launches
        for one, two in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.cpu().numpy(), two.numpy())


def test_the_pretended_device_notices_what_a_gpu_would() -> None:
    with pretended_cuda() as counts:
        cuda = device_of(DetectorSection(device="cuda"))
        there, here = torch.ones(2, device=cuda), torch.ones(2)
        with pytest.raises(MixedDevicesError, match="on the same device"):
            there + here
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            there.numpy()
        counts.reset()
        # Neither a copy from pinned memory nor an operation in place waits.
        there += to_device(np.ones(2, np.float32), cuda)
        there += stacked([np.ones((), np.float32)] * 2, cuda)
        assert not counts.waits
        assert there.tolist() == [3, 3]
        assert bool((there > 2).all())
        assert len(there[there > 2]) == 2
        here.to(cuda, non_blocking=True)  # not pinned
        assert sum(counts.waits.values()) == 4
        assert counts.launches["add_"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", [VgCaffe, VgPbua])
def test_a_real_gpu_finds_what_a_cpu_finds(kind, make_vg, photographs) -> None:
    small = {"min_size": 64, "max_size": 96, "min_boxes": 3, "max_boxes": 5}
    images = [kind.resize(DetectorSection(**small))(image) for image in photographs]
    on_cpu, on_gpu = (make_vg(kind, device, "fp32", **small) for device in ("cpu", "cuda"))
    assert_close(on_gpu(images, HW), on_cpu(images, HW))
    assert_close(on_gpu.pool_boxes(images, HW, BOXES), on_cpu.pool_boxes(images, HW, BOXES))
    for precision in ("tf32", "bf16", "fp16"):
        found = make_vg(kind, "cuda", precision, **small).pool_boxes(images, HW, BOXES)
        assert_close(found, on_cpu.pool_boxes(images, HW, BOXES), tolerance=0.05)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_lite_on_a_real_gpu(photographs) -> None:
    options = {"min_boxes": 5, "max_boxes": 10}
    on_cpu, on_gpu = (Lite(DetectorSection(device=d, **options)) for d in ("cpu", "cuda"))
    images = [Lite.resize(DetectorSection())(image) for image in photographs]
    assert_close(on_gpu.pool_boxes(images, HW, BOXES), on_cpu.pool_boxes(images, HW, BOXES))
    assert on_gpu(images, HW).num_boxes.tolist() == on_cpu(images, HW).num_boxes.tolist()
