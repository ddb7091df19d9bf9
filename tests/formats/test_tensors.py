"""Features in files of torch.save: VisualBERT's chunks and grids, read without running code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fixtures.made_up import write_output
from tests.formats.written import assert_resumes, assert_same, read_all, some_images
from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output
from vlray.formats.importing import import_file
from vlray.formats.lookup import recognize
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.tensors import ChunkReader, GridReader
from vlray.formats.readers.torch_file import TensorFile
from vlray.regions.batch import RegionBatch
from vlray.regions.output import open_output

DIM, ROWS, COLUMNS = 6, 2, 3


class Evil:
    """Unpickles by leaving a folder behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def save(value: object, path: Path, former: bool = False) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=not former)
    return path


@pytest.mark.parametrize("former", [False, True])
def test_tensors_of_every_type_and_layout_are_read(former: bool, tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base,
        "view": base[1:, ::2].T,
        "half": base.half(),
        "double": base.double(),
        "long": base.long(),
        "bool": base > 5,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3.5),
    }
    file = TensorFile(save(tensors, tmp_path / "t.pth", former))
    for name, tensor in tensors.items():
        got = file.array(file.content[name])
        assert got.dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(got, tensor.numpy())


@pytest.mark.parametrize("former", [False, True])
def test_visualberts_chunks_are_read(former: bool, tmp_path: Path) -> None:
    images = some_images(3)
    values = {
        f"{image.image_id}.jpg.npz": (
            torch.from_numpy(image.features),
            torch.from_numpy(image.boxes),
            torch.from_numpy(image.obj_probs),
        )
        for image in images
    }
    path = save(values, tmp_path / "features_train_150.th", former)
    assert recognize(path) == "visualbert-th"
    reader = ChunkReader(path)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels="")
    assert_resumes(reader)


def test_rows_of_a_tsv_with_tensors_have_their_sizes(tmp_path: Path) -> None:
    (image,) = some_images(1)
    row = {
        "image_id": 0,
        "image_w": float(image.width),
        "image_h": float(image.height),
        "num_boxes": len(image.boxes),
        "boxes": torch.from_numpy(image.boxes),
        "features": torch.from_numpy(image.features),
    }
    (got,) = read_all(ChunkReader(save({0: row}, tmp_path / "resnet101_genome.th")))
    assert_same(got, image, labels="")
    assert isinstance(got, RawRegions)
    assert got.image_hw == (image.height, image.width)


@pytest.mark.parametrize("former", [False, True])
def test_no_code_of_a_file_runs(former: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = save({"a": (torch.zeros(1, 2), Evil(trace))}, tmp_path / "evil.th", former)
    assert not ChunkReader.recognizes(path)
    with pytest.raises(ValueError, match=r"GLOBAL \w+\.mkdir is not allowed"):
        ChunkReader(path)
    assert not trace.exists()


def test_lying_files_are_damaged_rows(tmp_path: Path) -> None:
    (image,) = some_images(1)
    values = {"a": (torch.from_numpy(image.features), torch.from_numpy(image.boxes), None)}
    path = save(values, tmp_path / "cut.th", former=True)
    path.write_bytes(path.read_bytes()[:-8])
    (got,) = read_all(ChunkReader(path))
    assert isinstance(got, Unreadable)
    assert "cut off within a tensor" in got.reason
    grid = torch.zeros(1).expand(1, 2**14, 2**10, 2**10)  # 64 GiB of one value
    (tmp_path / "grids").mkdir()
    save(grid, tmp_path / "grids" / "1.pth")
    (got,) = read_all(GridReader(tmp_path / "grids"))
    assert isinstance(got, Unreadable)
    assert "more than the limit" in got.reason


def test_grids_go_out_as_grid_feats_has_them_and_come_back(tmp_path: Path) -> None:
    out = write_output(tmp_path / "output", {str(n): grid(n) for n in range(3)})
    place = tmp_path / "grids"
    export_output(ConvertConfig(source=str(out), output=str(place), format="grid-pth"))
    first = open_output(str(out))
    for image_id in first.image_ids:
        tensor = torch.load(place / f"{image_id}.pth", weights_only=True)
        assert tensor.shape == (1, DIM, ROWS, COLUMNS)
        assert tensor.dtype == torch.float32
        cells = tensor[0].permute(1, 2, 0).reshape(-1, DIM).numpy()
        np.testing.assert_array_equal(cells, first[image_id].visual_feats.astype(np.float32))
    assert recognize(place) == "grid-pth"
    sizes = tmp_path / "sizes.csv"
    rows = [f"{i},{h},{w}" for i in first.image_ids for h, w in first[i].image_hw.tolist()]
    sizes.write_text("\n".join(["id,height,width", *rows]))
    back = str(tmp_path / "back")
    import_file(ConvertConfig(source=str(place), output=back, sizes=str(sizes)))
    second = open_output(back)
    for image_id in first.image_ids:
        np.testing.assert_array_equal(second[image_id].visual_feats, first[image_id].visual_feats)
        np.testing.assert_allclose(second[image_id].boxes, first[image_id].boxes, atol=1e-3)


def test_regions_are_no_grid(tmp_path: Path) -> None:
    regions = grid(0)
    regions.boxes[1] += 1
    out = write_output(tmp_path / "output", {"a": regions})
    config = ConvertConfig(source=str(out), output=str(tmp_path / "grids"), format="grid-pth")
    with pytest.raises(ValueError, match="the regions of 'a' are not the cells of a grid"):
        export_output(config)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def grid(seed: int) -> RegionBatch:
    """Cells of an image, as `vlray extract --features grid` divides it."""
    rng = np.random.default_rng(seed)
    height, width = 200 + seed, 300
    y = np.linspace(0, height, ROWS + 1, dtype=np.float32)
    x = np.linspace(0, width, COLUMNS + 1, dtype=np.float32)
    boxes = [[x[c], y[r], x[c + 1], y[r + 1]] for r in range(ROWS) for c in range(COLUMNS)]
    return RegionBatch(
        np.array([[height, width]], np.int32),
        np.array([ROWS * COLUMNS], np.int32),
        np.array(boxes, np.float32),
        rng.normal(0, 1, (ROWS * COLUMNS, DIM)).astype(np.float16),
    )
