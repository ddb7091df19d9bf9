"""From names to detectors."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlray.config.detector import DetectorSection
from vlray.detect.lite import WEIGHTS
from vlray.detect.load import (
    check_modes,
    check_weights,
    detector_class,
    identify,
    load_detector,
    resize_of,
    settled,
)
from vlray.detect.weights.files import sha256
from vlray.images.resize import ResizeShortestEdge
from vlray.settings.state import store

OWN = '''
import numpy as np
from vlray.detect.protocol import DetectorInfo
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch


class Whole:
    """One region, the whole image; its vector is the mean colour."""

    def __init__(self, options):
        self.info = DetectorInfo("whole", feature_dim=3)

    def __call__(self, images, image_hw):
        ends = image_hw[:, ::-1].astype(np.float32)
        return RegionBatch(
            image_hw=image_hw,
            num_boxes=np.ones(len(images), np.int32),
            boxes=np.concatenate([ends * 0, ends], axis=1),
            visual_feats=np.stack([image.mean((0, 1)) for image in images]).astype(np.float32),
        )


class Small(Whole):
    @classmethod
    def resize(cls, options):
        return ResizeShortestEdge(options.min_size or 8, 16)
'''


@pytest.fixture(autouse=True)
def lasting_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("MODEL: {RESNETS: {DEPTH: 50}}\nVERSION: 2\n")
    path = tmp_path / "config.yaml"
    path.write_text("_BASE_: base.yaml\nINPUT: {MIN_SIZE_TEST: 99}\n")
    (tmp_path / "model.pth").write_bytes(b"weights")
    return path


def options(name: object, **values: Any) -> DetectorSection:
    return DetectorSection.model_validate({"name": str(name), **values})


def test_a_missing_method_is_named(own: Path) -> None:
    check_modes(options(f"{own}:Whole", features="none"), boxes_given=False)
    with pytest.raises(ValueError, match=r"cannot pool boxes .*:Whole has no method pool_boxes"):
        check_modes(options(f"{own}:Whole"), boxes_given=True)
    with pytest.raises(ValueError, match=r"has no method grid; .*protocol\.py.*vg-caffe"):
        check_modes(options(f"{own}:Whole", features="grid"), boxes_given=False)
    for name in ("lite", "vg-caffe", "vg-pbua"):
        check_modes(options(name, weights="of no matter"), boxes_given=True)
    check_modes(options("vg-pbua", features="grid"), boxes_given=False)


def test_a_missing_detectron2_is_found_before_an_actor_imports_it(
    own: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_modes(options(f"{own}:Whole"), boxes_given=False)
    for name in ("lite", "vg-pbua", config):
        with pytest.raises(ImportError, match=r"install it with `vlray doctor --fix`"):
            check_modes(options(name, weights="of no matter"), boxes_given=False)


def test_damaged_weights_of_a_configuration_are_found_before_an_actor_loads_them(
    config: Path,
) -> None:
    damaged = config.with_name("model.pth")
    with pytest.raises(ValueError, match=r"model\.pth is not a weights file, or it is damaged"):
        check_weights(options(config, weights=str(damaged)))
    check_weights(options(config, weights=str(WEIGHTS)))  # compared with the network in the actor


def test_a_file_of_ones_own_is_a_detector(own: Path) -> None:
    detector = load_detector(options(f"{own}:Whole"))
    hw = np.array([(2, 4)], np.int32)
    regions = detector([np.full((2, 4, 3), 7, np.uint8)], hw)
    assert regions.boxes.tolist() == [[0, 0, 4, 2]]
    assert regions.visual_feats.tolist() == [[7, 7, 7]]


def test_a_class_may_say_how_images_are_resized(own: Path, config: Path) -> None:
    assert resize_of(options(f"{own}:Whole")) is None
    assert resize_of(options(f"{own}:Small", min_size=5)) == ResizeShortestEdge(5, 16)
    assert resize_of(options(config)) == ResizeShortestEdge(99, 1333)


def test_a_module_of_ones_own_is_found_by_its_name(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(own.parent)
    assert detector_class(options("own:Small")).__name__ == "Small"
    assert identify(options("own:Small")) == {"target": "own:Small"}


def test_a_configuration_is_detectron2s(config: Path) -> None:
    assert detector_class(options(config)).__name__ == "Detectron"


def test_a_stored_name_stands_for_what_is_stored(own: Path, config: Path) -> None:
    store("models.mine", f"{own}:Whole")
    store("models.coco", str(config))
    assert detector_class(options("mine")).__name__ == "Whole"
    assert identify(options("mine")) == identify(options(f"{own}:Whole"))
    assert settled(options("coco")).name == str(config)
    store("models.bad", "something")
    with pytest.raises(ValueError, match=r"the stored name 'bad' stands for 'something'"):
        detector_class(options("bad"))


def test_settled_options_hold_in_other_folders_and_processes(
    own: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    assert settled(options("own.py:Whole")).name == f"{own}:Whole"
    done = settled(options("config.yaml", weights="model.pth"))
    assert (done.name, done.weights) == (str(config), str(config.with_name("model.pth")))
    assert settled(done) == done
    url = "https://example.org/config.yaml"
    assert settled(options(url, weights=f"{url}#sha256=00")).name == url
    assert settled(options("lite")) == options("lite", nms_thresh=0.5)
    assert settled(options("vg-caffe")).nms_thresh == 0.3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lit", r"unknown detector 'lit' \(did you mean 'lite'\?\)"),
        ("mime", r"unknown detector 'mime' \(did you mean 'mine'\?\)"),
        (
            "something",
            r"unknown detector .something.; choose one of lite, vg-caffe, vg-pbua, vinvl, mine, a",
        ),
        ("none.yaml", r"no configuration file 'none\.yaml'"),
        ("none.py:Mine", r"no such file"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name: str, message: str, own: Path) -> None:
    store("models.mine", f"{own}:Whole")
    with pytest.raises(ValueError, match=message):
        load_detector(options(name))
    with pytest.raises(ValueError, match=message):
        identify(options(name))


def test_an_unknown_name_shows_how_a_class_is_written() -> None:
    with pytest.raises(ValueError, match=r"class Mine:\n +def __init__\(self, options\)"):
        load_detector(options("something"))


def test_identity_follows_the_content_of_files_and_not_their_places(
    own: Path, config: Path, tmp_path: Path
) -> None:
    first = identify(options(f"{own}:Whole"))
    assert first == {"target": "own.py:Whole", "source_sha256": sha256(own)}
    moved = tmp_path / "elsewhere" / "own.py"
    moved.parent.mkdir()
    moved.write_text(OWN)
    assert identify(options(f"{moved}:Whole")) == first
    moved.write_text(OWN + "\n")
    assert identify(options(f"{moved}:Whole")) != first

    weights = config.with_name("model.pth")
    one = identify(options(config, weights=str(weights)))
    assert one["target"] == "vlray.detect.detectron:Detectron"
    assert one["weights_sha256"] == sha256(weights)
    config.with_name("base.yaml").write_text("MODEL: {RESNETS: {DEPTH: 101}}\nVERSION: 2\n")
    two = identify(options(config, weights=str(weights)))
    assert two["config_sha256"] != one["config_sha256"]
    weights.write_bytes(b"other weights")
    three = identify(options(config, weights=str(weights)))
    assert three["weights_sha256"] != two["weights_sha256"]


def test_weights_of_a_class_of_ones_own_may_be_anything_it_understands(
    own: Path, config: Path
) -> None:
    weights = config.with_name("model.pth")
    with_file = identify(options(f"{own}:Whole", weights=str(weights)))
    assert with_file["weights_sha256"] == sha256(weights)
    assert identify(options(f"{own}:Whole", weights="hub/name"))["weights"] == "hub/name"


@pytest.mark.usefixtures("processes")
def test_identifying_imports_no_torch(own: Path, config: Path) -> None:
    code = f"""
import sys
from vlray.config.detector import DetectorSection
from vlray.detect.lite import WEIGHTS
from vlray.detect.load import identify
identify(DetectorSection(name={f"{own}:Whole"!r}))
identify(DetectorSection(name={str(config)!r}, weights={str(config.with_name("model.pth"))!r}))
assert not {{"torch", "ray", "detectron2"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lite_is_identified_by_its_weights() -> None:
    shipped = WEIGHTS
    assert identify(options("lite")) == {
        "target": "vlray.detect.lite:Lite+stages",
        "weights_sha256": sha256(shipped),
    }
    own = identify(options("lite", weights=str(shipped)))
    assert own == identify(options("lite"))


@pytest.mark.parametrize(
    "given", [{"precision": "bf16"}, {"post_nms_topk": 100}, {"backbone_precision": "bf16"}]
)
def test_options_of_the_visual_genome_detector_are_refused_before_another_is_loaded(
    given: dict[str, Any],
) -> None:
    (name,) = given
    with pytest.raises(ValueError, match=rf"detector\.{name}=.* works only with vg-caffe(,| and)"):
        check_modes(DetectorSection(**given), boxes_given=False)
    check_modes(DetectorSection(name="vg-caffe", **given), boxes_given=False)
