"""Configurations: found, read with what they are based on, and refused by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vlray.detect.d2.compat  # noqa: F401  for its stand-in of what is not compiled
from vlray.config.detector import DetectorSection
from vlray.detect.d2.config import load_config
from vlray.detect.d2.files import config_files, config_path, weights_of


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_configuration_is_read_with_all_it_is_based_on(tmp_path: Path) -> None:
    write(tmp_path / "base/a.yaml", "MODEL: {WEIGHTS: a.pth, DEVICE: cuda}\nVERSION: 2\n")
    write(tmp_path / "base/b.yaml", "_BASE_: a.yaml\nMODEL: {WEIGHTS: b.pth}\n")
    top = write(tmp_path / "top.yaml", "_BASE_: base/b.yaml\nINPUT: {MIN_SIZE_TEST: 77}\n")
    names = [path.name for path in config_files(top)]
    assert names == ["top.yaml", "b.yaml", "a.yaml"]
    assert weights_of(DetectorSection(name=str(top))) == "b.pth"
    assert weights_of(DetectorSection(name=str(top), weights="c.pth")) == "c.pth"
    assert load_config(DetectorSection(name=str(top))).INPUT.MIN_SIZE_TEST == 77


def test_of_several_bases_the_last_one_wins_as_in_detectron2(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "MODEL: {WEIGHTS: a.pth}\nVERSION: 2\n")
    write(tmp_path / "b.yaml", "MODEL: {WEIGHTS: b.pth}\n")
    top = write(tmp_path / "top.yaml", "_BASE_: [a.yaml, b.yaml]\n")
    options = DetectorSection(name=str(top))
    assert weights_of(options) == load_config(options).MODEL.WEIGHTS == "b.pth"


@pytest.mark.usefixtures("processes")
def test_identifying_a_configuration_needs_no_torch(tmp_path: Path) -> None:
    top = write(tmp_path / "top.yaml", "MODEL: {WEIGHTS: a.pth}\n")
    code = (
        "import sys\n"
        "from vlray.config.detector import DetectorSection\n"
        "from vlray.detect.d2.files import config_files, config_path, weights_of\n"
        f"name = {str(top)!r}\n"
        "config_files(config_path(name)), weights_of(DetectorSection(name=name))\n"
        "assert not {'torch', 'detectron2'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("_BASE_: gone.yaml\n", r"gone\.yaml, the _BASE_ of .*top\.yaml, does not exist"),
        ("_BASE_: top.yaml\n", "is based on itself"),
        ("- a\n- b\n", "contains a list"),
        ("", "contains a NoneType"),
        ("a: [\n", "is not a YAML file"),
        (
            "MODEL: {WEIGHTS: !!python/object/apply:os.getcwd []}\n",
            "python/object/apply:os.getcwd.*never runs code",
        ),
    ],
)
def test_a_configuration_that_cannot_be_read_is_named(
    text: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "top.yaml", text)
    with pytest.raises(ValueError, match=message):
        load_config(DetectorSection(name=str(path)))


def test_an_architecture_is_named_even_if_its_configuration_holds_code(tmp_path: Path) -> None:
    path = write(
        tmp_path / "retinanet.yaml",
        'MODEL:\n  META_ARCHITECTURE: "RetinaNet"\n'
        '  ANCHOR_GENERATOR: {SIZES: !!python/object/apply:eval ["[[x] for x in [32, 64]]"]}\n',
    )
    with pytest.raises(ValueError, match="the architecture RetinaNet has no box head"):
        load_config(DetectorSection(name=str(path)))


def test_a_configuration_without_weights_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "top.yaml", "VERSION: 2\n")
    with pytest.raises(ValueError, match=r"does not set MODEL\.WEIGHTS.*set detector\.weights"):
        weights_of(DetectorSection(name=str(path)))


def test_a_name_of_the_model_zoo_that_is_not_there_names_others() -> None:
    with pytest.raises(ValueError, match=r"no configuration file 'COCO-Detection/none\.yaml'"):
        config_path("COCO-Detection/none.yaml")
    with pytest.raises(ValueError, match="d2:COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x"):
        config_path("d2:COCO-InstanceSegmentation/mask_rcnn_R_101_FPN")


def test_the_model_zoo_is_there_by_name() -> None:
    name = "d2:COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x"
    assert config_path(f"{name}.yaml") == config_path(name)
    assert weights_of(DetectorSection(name=name)).endswith("138205316/model_final_a3ec72.pkl")
    model = load_config(DetectorSection(name=name)).MODEL
    assert (*(101, 2, 1024),) == (
        model.RESNETS.DEPTH,
        model.ROI_BOX_HEAD.NUM_FC,
        model.ROI_BOX_HEAD.FC_DIM,
    )


def test_keys_of_training_are_ignored_and_all_others_refused_at_once(tmp_path: Path) -> None:
    training = "SOLVER: {STEPS: no, NEW: 1}\nTEST: {NEW: 1}\nDATASETS: {NEW: 1, TEST: [a]}\n"
    path = write(tmp_path / "good.yaml", f"{training}VERSION: 2\n")
    assert load_config(DetectorSection(name=str(path))).DATASETS.TEST == ("a",)
    model = "MODEL: {BUA: {ATTRIBUTE_ON: true}, RPN: {NMS_TRESH: 0.7}, POINT_HEAD: {}}\n"
    path = write(tmp_path / "bad.yaml", f"{model}{training}INPUT: {{X: 1}}\nVERSION: 2\n")
    with pytest.raises(ValueError, match="belong to other projects") as error:
        load_config(DetectorSection(name=str(path)))
    lines = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert [line.partition(":")[0] for line in lines] == [
        *("MODEL.BUA", "MODEL.RPN.NMS_TRESH", "MODEL.POINT_HEAD", "INPUT.X"),
    ]
    assert "vg-caffe" in lines[0]
    assert lines[2].endswith("PointRend")


def test_grids_follow_grid_feats_vqa_in_keys_heads_and_stride(tmp_path: Path) -> None:
    # The keys of grid-feats-vqa's configs/Base-RCNN-grid.yaml and R-50-grid.yaml.
    text = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: a.pth
  ATTRIBUTE_ON: true
  RESNETS: {OUT_FEATURES: [res5], RES5_DILATION: 2}
  RPN: {IN_FEATURES: [res5], BBOX_LOSS_WEIGHT: 1.0}
  ROI_HEADS: {NAME: AttributeStandardROIHeads, NUM_CLASSES: 1600, IN_FEATURES: [res5]}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 2, POOLER_RESOLUTION: 1, BBOX_LOSS_WEIGHT: 1.0}
  ROI_ATTRIBUTE_HEAD: {NUM_CLASSES: 400, OBJ_EMBED_DIM: 256, FC_DIM: 512, LOSS_WEIGHT: 0.2}
INPUT: {MAX_ATTR_PER_INS: 16}
VERSION: 2
"""
    path = write(tmp_path / "R-50-grid.yaml", text)
    model = load_config(DetectorSection(name=str(path), features="grid")).MODEL
    assert (model.RESNETS.RES5_DILATION, model.ROI_HEADS.NAME) == (1, "StandardROIHeads")
    assert load_config(DetectorSection(name=str(path))).MODEL.RESNETS.RES5_DILATION == 2
