"""One call from a path, a Pillow image or an array to regions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import vlray
from vlray.detect import notebook
from vlray.regions.batch import RegionBatch

# Keeps a record of the batches that it was given, which a detector should not do outside of tests.
OWN = '''
import numpy as np
from vlray.detect.protocol import DetectorInfo
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch

SEEN = []
LOADED = []


class Halves:
    """Two regions, the left and the right half; their vectors are the mean colours."""

    @classmethod
    def resize(cls, options):
        return ResizeShortestEdge(options.min_size or 32, 64)

    def __init__(self, options):
        LOADED.append(options)
        self.info = DetectorInfo("halves", feature_dim=3, obj_names=("left", "right"))

    def __call__(self, images, image_hw):
        SEEN.append([image.shape for image in images])
        boxes, feats = [], []
        for image, (height, width) in zip(images, image_hw):
            boxes += [[0, 0, width / 2, height], [width / 2, 0, width, height]]
            half = image.shape[1] // 2
            feats += [image[:, :half].mean((0, 1)), image[:, half:].mean((0, 1))]
        count = len(images)
        return RegionBatch(
            image_hw=image_hw,
            num_boxes=np.full(count, 2, np.int32),
            boxes=np.array(boxes, np.float32),
            visual_feats=np.array(feats, np.float32),
            obj_ids=np.tile(np.array([0, 1], np.int32), count),
            obj_probs=np.ones(2 * count, np.float32),
        )


class Pools(Halves):
    def pool_boxes(self, images, image_hw, boxes):
        SEEN.append([len(given) for given in boxes])
        given = np.concatenate(boxes)
        return RegionBatch(
            image_hw=image_hw,
            num_boxes=np.array([len(one) for one in boxes], np.int32),
            boxes=given,
            visual_feats=given[:, :3] * 2,
            obj_ids=np.zeros(len(given), np.int32),
            obj_probs=np.ones(len(given), np.float32),
        )


class Broken(Halves):
    def __call__(self, images, image_hw):
        return [1, 2]
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = []
    for name in ("astronaut", "coffee", "chelsea"):
        paths.append(tmp_path / f"{name}.png")
        Image.fromarray(getattr(skimage.data, name)()).save(paths[-1])
    return paths


def load_halves(own: Path) -> object:
    options = notebook._settle(f"{own}:Halves", {}).model_dump_json()
    return notebook._load(options)[0]


def module_of(own: Path) -> object:
    return sys.modules[type(load_halves(own)).__module__]


def equal(one: RegionBatch, two: RegionBatch) -> bool:
    return one.boxes.tobytes() == two.boxes.tobytes() and (
        one.visual_feats.tobytes() == two.visual_feats.tobytes()
    )


def test_a_path_a_pillow_image_and_an_array_give_the_same(
    own: Path, photographs: list[Path]
) -> None:
    name = f"{own}:Halves"
    image = Image.open(photographs[1])
    by_path = vlray.find_regions(photographs[1], name)
    assert by_path.image_hw.tolist() == [[400, 600]]
    assert by_path.boxes.tolist() == [[0, 0, 300, 400], [300, 0, 600, 400]]
    assert equal(by_path, vlray.find_regions(str(photographs[1]), name))
    assert equal(by_path, vlray.find_regions(image, name))
    assert equal(by_path, vlray.find_regions(np.asarray(image), name))
    left = np.asarray(image)[:, :300].mean((0, 1))
    np.testing.assert_allclose(by_path.visual_feats[0], left[::-1], atol=2)  # the detector sees BGR


def test_regions_come_in_the_order_of_the_images(own: Path, photographs: list[Path]) -> None:
    name = f"{own}:Halves"
    mixed = [photographs[i] for i in (1, 0, 2, 0, 1)]
    together = vlray.find_regions(mixed, name, batch_size=2)
    assert len(together) == 5
    for path, regions in zip(mixed, together, strict=True):
        assert equal(regions, vlray.find_regions(path, name))


def test_only_images_of_one_size_share_a_batch(own: Path, photographs: list[Path]) -> None:
    module = module_of(own)
    vlray.find_regions([photographs[i] for i in (1, 0, 1, 1)], f"{own}:Halves", batch_size=2)
    assert module.SEEN == [[(32, 48, 3)] * 2, [(32, 48, 3)], [(32, 32, 3)]]


def test_a_detector_is_loaded_once_for_the_same_options(
    own: Path, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(own)
    assert len(module.LOADED) == 1
    for _ in range(2):
        vlray.find_regions(photographs[0], f"{own}:Halves")
    monkeypatch.chdir(own.parent)
    vlray.find_regions(photographs[0], "own.py:Halves")  # the same file
    assert len(module.LOADED) == 1
    vlray.find_regions(photographs[0], f"{own}:Halves", min_size=16)
    assert len(module.LOADED) == 2


def test_given_boxes_stay_with_their_images(own: Path, photographs: list[Path]) -> None:
    name = f"{own}:Pools"
    boxes = [[[1, 2, 30, 40]], [], [[5, 6, 7, 8], [0, 0, 99.5, 200]]]
    mixed = [photographs[i] for i in (1, 0, 1)]
    found = vlray.find_regions(mixed, name, boxes=boxes, batch_size=8)
    assert found.num_boxes.tolist() == [1, 0, 2]
    assert found.boxes.tolist() == [*boxes[0], *boxes[2]]
    assert found.visual_feats.tolist() == [[2, 4, 60], [10, 12, 14], [0, 0, 199]]
    one = vlray.find_regions(photographs[1], name, boxes=np.array(boxes[2]))
    assert one.boxes.tolist() == boxes[2]


def test_wrong_boxes_are_named_with_their_image(own: Path, photographs: list[Path]) -> None:
    for boxes, message in (
        ([[[1, 2, 3, 4]]], "boxes for 1 image, but 2 images"),
        ([[[1, 2, 3, 4]], [[1, 2, 3]]], "arrays of x1, y1, x2, y2"),
        ([[[1, 2, 3, 4]], [[0, 0, 700, 10]]], r"image 1: box 0 of 1 is .*its 600x400 image"),
    ):
        with pytest.raises(ValueError, match=message):
            vlray.find_regions(photographs[:2], f"{own}:Pools", boxes=boxes)
    with pytest.raises(ValueError, match=r"own\.py:Halves has no method pool_boxes"):
        vlray.find_regions(photographs[:1], f"{own}:Halves", boxes=[[[1, 2, 3, 4]]])


def test_vectors_can_be_left_out(own: Path, photographs: list[Path]) -> None:
    name = f"{own}:Halves"
    bare = vlray.find_regions(photographs, name, features="none")
    assert bare.visual_feats.shape == (6, 0)
    whole = vlray.find_regions(photographs, name)
    assert bare.boxes.tobytes() == whole.boxes.tobytes()
    assert bare.obj_ids.tolist() == whole.obj_ids.tolist()
    assert vlray.detector_info(name, features="none").feature_dim == 0


def test_info_names_the_ids(own: Path) -> None:
    info = vlray.detector_info(f"{own}:Halves")
    assert (info.name, info.feature_dim, info.obj_names) == ("halves", 3, ("left", "right"))


def test_mistakes_are_named(own: Path, photographs: list[Path], tmp_path: Path) -> None:
    name = f"{own}:Halves"
    with pytest.raises(ValueError, match="no images; pass"):
        vlray.find_regions([], name)
    with pytest.raises(ValueError, match=r"no option 'min_box' \(did you mean 'min_boxes'\?\)"):
        vlray.find_regions(photographs[0], name, min_box=3)
    with pytest.raises(ValueError, match="exceeds max_boxes"):
        vlray.find_regions(photographs[0], name, min_boxes=50, max_boxes=40)
    with pytest.raises(ValueError, match="returned list, not a RegionBatch"):
        vlray.find_regions(photographs[0], f"{own}:Broken")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(ValueError, match="not an image of a format"):
        vlray.find_regions(broken, name)


@pytest.mark.usefixtures("processes")
def test_importing_vlray_stays_light() -> None:
    code = "import sys, vlray\nassert not {'torch', 'numpy', 'PIL'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'find_region'"):
        _ = vlray.find_region
