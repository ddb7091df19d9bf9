"""Keys of Detectron2 configurations: those that only training uses, and those of other projects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Sections that inference never reads. Their keys differ between projects and versions, and none of
# them changes a region.
_UNUSED = frozenset(
    (
        *("SOLVER", "TEST", "DATALOADER", "GLOBAL"),
        *("OUTPUT_DIR", "SEED", "CUDNN_BENCHMARK", "VIS_PERIOD"),
    )
)
_OWNERS = {
    "MODEL.WEIGHT": "maskrcnn-benchmark",
    "MODEL.BACKBONE.CONV_BODY": "maskrcnn-benchmark",
    "MODEL.BUA": "MILVLG's bottom-up-attention.pytorch; its weights load with --name vg-caffe",
    "MODEL.CLIP": "RegionCLIP",
    "MODEL.CENTERNET": "CenterNet2 and Detic",
    "MODEL.FCOS": "AdelaiDet",
    "MODEL.BiFPN": "CenterNet2",
    "MODEL.VOVNET": "CenterMask and VoVNet",
    "MODEL.SWINT": "SwinT_detectron2",
    "MODEL.SWIN": "Mask2Former and other projects with Swin backbones",
    "MODEL.VIT": "projects with ViT backbones, such as DiT",
    "MODEL.MASK_FORMER": "MaskFormer and Mask2Former",
    "MODEL.DETR": "DETR",
    "MODEL.POINT_HEAD": "PointRend",
    "MODEL.ROI_POINT_HEAD": "PointRend",
    "MODEL.ROI_DENSEPOSE_HEAD": "DensePose",
    "MODEL.ROI_MESH_HEAD": "Mesh R-CNN",
    "MODEL.ROI_RELATION_HEAD": "scene graph projects",
    "MODEL.TRIDENT": "TridentNet",
    "MODEL.TENSOR_MASK": "TensorMask",
    "MODEL.PANOPTIC_DEEPLAB": "Panoptic-DeepLab",
}
"""Projects that add a key to Detectron2's, for error messages."""


def used_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the sections and keys that inference never reads.

    Of ``DATASETS``, only ``TEST`` is kept, which names the classes.
    """
    used = {name: value for name, value in values.items() if name not in _UNUSED}
    if isinstance(datasets := used.pop("DATASETS", None), Mapping) and "TEST" in datasets:
        used["DATASETS"] = {"TEST": datasets["TEST"]}
    return used


def describe_unknown(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """List all keys that Detectron2 does not know, each with the project that it belongs to.

    Args:
        values: A configuration, as read from its files.
        defaults: Detectron2's own configuration, with the keys that vlray supports besides.

    Returns:
        One line for each key; empty if all are known.
    """
    lines = []
    for key in _unknown(values, defaults, ""):
        owner = next((project for own, project in _OWNERS.items() if _is_part(key, own)), "")
        lines.append(
            f"  {key}: {f'a key of {owner}' if owner else 'of no project that vlray knows'}"
        )
    return "\n".join(lines)


def _is_part(key: str, of: str) -> bool:
    return key == of or key.startswith(f"{of}.")


def _unknown(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the dotted paths of keys that ``defaults`` lacks."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in defaults:
            yield key
        elif isinstance(value, Mapping) and isinstance(defaults[name], Mapping):
            yield from _unknown(value, defaults[name], f"{key}.")
