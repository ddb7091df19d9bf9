"""Writers for folders of ``.npz`` files: MILVLG's, MCAN's and openvqa's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vlray.formats.writers.base import FolderExport, file_name_problem, npz, sizes_of
from vlray.regions.batch import RegionBatch


class NpzExport(FolderExport):
    """Writer for the layout of MILVLG's Caffe modes; the labels are a pickled dictionary.

    Source:
        MILVLG/bottom-up-attention.pytorch, utils/extract_utils.py (save_roi_features).
    """

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the file of one image."""
        height, width = sizes_of(regions)
        count = len(regions.boxes)
        info: dict[str, object] = {
            "image_id": image_id,
            "image_h": height,
            "image_w": width,
            "num_boxes": count,
        }
        if regions.obj_ids is not None:
            info["objects_id"] = regions.obj_ids.astype(np.int64)
        if regions.obj_probs is not None:
            info["objects_conf"] = regions.obj_probs
        if regions.attr_ids is not None:
            info["attrs_id"] = regions.attr_ids.astype(np.int64)
        if regions.attr_probs is not None:
            info["attrs_conf"] = regions.attr_probs
        arrays = {
            "x": regions.visual_feats.astype(np.float32),
            "bbox": regions.boxes,
            "num_bbox": count,
            "image_h": height,
            "image_w": width,
            "info": np.array(info, object),
        }
        yield f"{image_id}.npz", npz(arrays)


class McanExport(FolderExport):
    """Writer for MCAN's layout, whose feature matrix is transposed.

    MCAN takes the number after the last underscore of a file name as the image's id.

    Source:
        MILVLG/mcan-vqa, core/data/data_utils.py (img_feat_load); MILVLG/openvqa,
        openvqa/datasets/vqa/vqa_loader.py.
    """

    @staticmethod
    def problem(image_id: str) -> str:
        """Refuse ids that do not end with a number."""
        number = image_id.rpartition("/")[2].rpartition("_")[2]
        if not (number.isascii() and number.isdigit()):
            return (
                "does not end with a number, by which MCAN looks up images; use --id-rule coco "
                "when you extract, or choose another format"
            )
        return file_name_problem(image_id)

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the file of one image."""
        height, width = sizes_of(regions)
        features = np.ascontiguousarray(regions.visual_feats.T, np.float32)
        boxes = {"bbox": regions.boxes, "num_bbox": len(regions.boxes)}
        yield f"{image_id}.npz", npz({"x": features, **boxes, "image_h": height, "image_w": width})


class OpenvqaExport(FolderExport):
    """Writer for the layout that openvqa has for GQA.

    Source:
        MILVLG/openvqa, data/gqa/gqa_feat_preproc.py, openvqa/datasets/gqa/gqa_loader.py.
    """

    @staticmethod
    def problem(image_id: str) -> str:
        """Refuse ids with a dot, which openvqa would cut off there."""
        if "." in image_id:
            return "has a dot, at which openvqa ends an image's id; choose another format"
        return file_name_problem(image_id)

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the file of one image."""
        height, width = sizes_of(regions)
        features = regions.visual_feats.astype(np.float32)
        arrays = {"x": features, "bbox": regions.boxes, "width": width, "height": height}
        yield f"{image_id}.npz", npz(arrays)
