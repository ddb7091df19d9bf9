"""Whether the projects that consume region files read what vlray writes, with their own loaders.

For each form, the ten published images (36 regions of 2048 numbers) are exported, and read back by
the project's own code, each form in a process of its own; the arrays must be equal. ``--code`` is
a folder outside the checkout with the projects' repositories, named OWNER+NAME, such as
``aimagelab+meshed-memory-transformer``; a form whose project is missing is skipped. What the
loaders import without needing it to read features (horovod, spaCy's vectors ...) is replaced by
empty modules. The code of these projects runs with your rights: look at it before.

python -m tests.benchmarks.consumers --code ../peers
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import importlib
import importlib.util
import io
import json
import pickle
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.benchmarks.report import print_header, print_table
from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output
from vlray.formats.importing import import_file
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output

PUBLISHED = Path(__file__).parents[3] / "shared" / "fixtures" / "butd" / "train2014_obj36.tsv"
COUNT, DIM = 36, 2048

Arrays = tuple[np.ndarray, np.ndarray | None]
"""Features (R, D), and boxes (R, 4) in pixels; None where the loader drops them."""

Read = Callable[[Path, Path, RegionOutput], Iterator[tuple[str, Arrays]]]
"""Reads what was written (second) with the code (first)."""


def _stub(name: str, **contents: object) -> ModuleType:
    """Put an empty module in the place of one that is not installed, with its parents."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        full = ".".join(parts[:end])
        if full not in sys.modules:
            module = ModuleType(full)
            module.__path__ = []
            sys.modules[full] = module
            if end > 1:
                setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    for key, value in contents.items():
        setattr(sys.modules[name], key, value)
    return sys.modules[name]


def _load(path: Path, name: str) -> Any:
    """Import one file of a project as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _size(output: RegionOutput, image_id: str) -> tuple[int, int]:
    height, width = output[image_id].image_hw[0].tolist()
    return height, width


# --- one function for each form -------------------------------------------------------------------


def read_m2(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    sys.path.insert(0, str(code))
    field = importlib.import_module("data.field")
    reader = field.ImageDetectionsField(
        detections_path=str(place), max_detections=COUNT, load_in_tmp=False
    )
    for image_id in output.image_ids:
        yield image_id, (reader.preprocess(f"COCO_val2014_{int(image_id):012d}.jpg"), None)


def read_cocobu(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    _stub("lmdbdict", lmdbdict=None)
    _stub("lmdbdict.methods", DUMPS_FUNC={}, LOADS_FUNC={})
    loader = _load(code / "captioning" / "data" / "dataloader.py", "dataloader")
    vectors = loader.HybridLoader(str(place / "cocobu_att"), ".npz")
    means = loader.HybridLoader(str(place / "cocobu_fc"), ".npy")
    boxes = loader.HybridLoader(str(place / "cocobu_box"), ".npy")
    for image_id in output.image_ids:
        features = vectors.get(image_id)
        np.testing.assert_array_equal(means.get(image_id), features.mean(0))
        yield image_id, (features, boxes.get(image_id))


def read_cocobu_xmodaler(
    code: Path, place: Path, output: RegionOutput
) -> Iterator[tuple[str, Arrays]]:
    _stub("xmodaler.functional.func_feats", boxes_to_locfeats=None)
    reader = _load(code / "xmodaler" / "functional" / "func_io.py", "xmodaler.functional.func_io")
    for image_id in output.image_ids:
        content = reader.read_np(str(place / "cocobu_att" / f"{image_id}.npz"))
        yield image_id, (content["features"], None)


def read_tsv6(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    """Run make_bu_data.py, which 46 repositories hold, and read what it makes."""
    base64.decodestring = base64.decodebytes  # type: ignore[attr-defined] # until Python 3.8
    folder, out = place.parent / "tsv" / "trainval", place.parent / "made"
    folder.mkdir(parents=True)
    names = ["test", "val", "train"]
    paths = [folder / f"karpathy_{name}_resnet101_faster_rcnn_genome.tsv" for name in names]
    for path in (*paths[:2], Path(f"{paths[2]}.0"), Path(f"{paths[2]}.1")):
        path.write_bytes(place.read_bytes() if path == paths[0] else b"")
    sys.argv = ["make", "--downloaded_feats", str(folder.parent), "--output_dir", str(out)]
    runpy.run_path(str(code / "scripts" / "make_bu_data.py"), run_name="__main__")
    for image_id in output.image_ids:
        features = np.load(f"{out}_att/{image_id}.npz")["feat"]
        yield image_id, (features, np.load(f"{out}_box/{image_id}.npy"))


def read_tsv10(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    loader = _load(code / "src" / "utils.py", "lxmert_utils")
    for item in loader.load_obj_tsv(str(place)):
        assert (item["img_h"], item["img_w"]) == _size(output, item["img_id"])
        np.testing.assert_array_equal(item["objects_id"], output[item["img_id"]].obj_ids)
        yield item["img_id"], (item["features"], item["boxes"])


def read_volta(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    path = code / "volta" / "datasets" / "_image_features_reader.py"
    config = SimpleNamespace(
        v_feature_size=DIM, num_locs=5, add_global_imgfeat=None, norm_embeddings=False
    )
    loader = _load(path, "volta_reader")
    for in_memory in (False, True):
        reader = loader.ImageFeaturesH5Reader(str(place), config, in_memory)
        for image_id in output.image_ids:
            item = reader[image_id]
            if in_memory:  # filled by the first call, returned by the second
                item = reader[image_id]
            features, _, _, boxes = item
            yield image_id, (features, boxes[:, :4])
        reader.env.close()


def read_volta_hdf5(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    """Convert to LMDB as VOLTA does, then read as VOLTA does (arrays instead of base64)."""
    database = place.parent / "made.lmdb"
    source = (code / "features_extraction" / "h5_to_lmdb.py").read_text()
    script = place.parent / "h5_to_lmdb.py"
    script.write_text(source.replace("1099511627776", str(2**30)))  # a map for small disks
    sys.argv = ["h5_to_lmdb", "--h5", str(place), "--lmdb", str(database)]
    runpy.run_path(str(script), run_name="__main__")
    with contextlib.closing(read_volta(code, database, output)) as images:
        for image_id, arrays in images:
            yield image_id, arrays
            if image_id == output.image_ids[-1]:
                return  # the way in memory needs base64


def read_uniter(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    _stub("horovod.torch", size=lambda: 1, local_size=lambda: 1)
    _stub("lz4.frame", compress=None, decompress=None)
    loader = _load(code / "data" / "data.py", "uniter_data")
    database = loader.DetectFeatLmdb(str(place), compress=False)
    for image_id in output.image_ids:
        dataset = SimpleNamespace(img_db=database)
        features, boxes, count = loader.DetectFeatTxtTokDataset._get_img_feat(
            dataset, f"{image_id}.npz"
        )
        assert boxes.shape == (count, 7)
        area = boxes[:, 4] * boxes[:, 5]
        torch.testing.assert_close(boxes[:, 6], area)
        dump = database.get_dump(f"{image_id}.npz")
        np.testing.assert_array_equal(dump["conf"], output[image_id].obj_probs)
        yield image_id, (features.numpy(), _pixels(boxes.numpy(), _size(output, image_id)))


def read_uniter_npz(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    _stub("cytoolz", curry=lambda function: function)
    loader = _load(code / "scripts" / "convert_imgdir.py", "uniter_convert")
    for image_id in output.image_ids:
        name, dump, count = loader.load_npz(0.2, 100, 10, 36, str(place / f"{image_id}.npz"))
        assert name == f"{image_id}.npz"
        expected = output[image_id].visual_feats[:count].astype(np.float16)
        np.testing.assert_array_equal(dump["features"], expected)
        archive = np.load(place / name)
        boxes = _pixels(archive["norm_bb"], _size(output, image_id))
        yield image_id, (archive["features"].astype(np.float32), boxes)


def _pixels(fractions: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    return (fractions[:, :4] * np.array([hw[1], hw[0]] * 2)).round(2)


def read_mmf(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    manager = SimpleNamespace(open=open, exists=lambda path: Path(path).exists())
    _stub("mmf.utils.file_io", PathManager=manager)
    path = code / "mmf" / "datasets" / "databases" / "readers" / "feature_readers.py"
    readers = _load(path, "feature_readers")
    reader = readers.FeatureReader(str(place), depth_first=False, max_features=100)
    for image_id in output.image_ids:
        features, info = reader.read(f"{image_id}.npy")
        assert (info["image_height"], info["image_width"]) == _size(output, image_id)
        assert int(info["max_features"]) == COUNT
        assert not features[COUNT:].any()
        yield image_id, (features[:COUNT].numpy(), info["bbox"])


def read_mmf_grid(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    manager = SimpleNamespace(open=open, exists=lambda path: Path(path).exists())
    _stub("mmf.utils.file_io", PathManager=manager)
    path = code / "mmf" / "datasets" / "databases" / "readers" / "feature_readers.py"
    readers = _load(path, "feature_readers")
    reader = readers.FeatureReader(str(place), depth_first=True, max_features=COUNT)
    for image_id in output.image_ids:
        grid, _ = reader.read(f"{image_id}.pth")
        assert grid.shape == (DIM, 6, 6)
        yield image_id, (grid.permute(1, 2, 0).reshape(COUNT, DIM).numpy(), None)


def read_mcan(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    _stub("en_vectors_web_lg")
    sys.path.insert(0, str(code))
    utils = importlib.import_module("core.data.data_utils")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = utils.img_feat_load([str(path) for path in sorted(place.glob("*.npz"))])
    for image_id in output.image_ids:
        yield image_id, (utils.proc_img_feat(loaded[image_id], 100)[:COUNT], None)


def read_openvqa(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    """openvqa for VQA; its boxes are not normalized here."""
    yield from _openvqa("vqa", code, place, output)


def read_openvqa_gqa(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    grids = place.parent / "grids"
    grids.mkdir()
    for image_id in output.image_ids:
        np.savez(grids / f"{image_id}.npz", x=np.zeros((49, DIM), np.float32))
    yield from _openvqa("gqa", code, place, output, grids)


def _openvqa(
    name: str, code: Path, place: Path, output: RegionOutput, grids: Path | None = None
) -> Iterator[tuple[str, Arrays]]:
    _stub("en_vectors_web_lg")
    sys.path.insert(0, str(code))
    loader = importlib.import_module(f"openvqa.datasets.{name}.{name}_loader")
    dataset = object.__new__(loader.DataSet)
    paths = sorted(map(str, place.glob("*.npz")))
    dataset.iid_to_frcn_feat_path = dataset.img_feat_path_load(paths)
    if grids:
        dataset.iid_to_grid_feat_path = dataset.img_feat_path_load(
            sorted(map(str, grids.glob("*")))
        )
    sizes = {"FRCN_FEAT_SIZE": (100, DIM), "BBOX_FEAT_SIZE": (100, 5)}
    dataset._DataSet__C = SimpleNamespace(FEAT_SIZE={name: sizes}, BBOX_NORMALIZE=False)
    for image_id in output.image_ids:
        features, _, boxes = dataset.load_img_feats(0, image_id)
        boxes = boxes[:COUNT]
        if grids:  # GQA's are always fractions
            boxes = _pixels(boxes, _size(output, image_id))
        yield image_id, (features[:COUNT], boxes)


def read_butd(code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    """BUTD-VQA and BAN, by the name of the folder of their code."""
    opened = pickle.load
    # The original opens pickles as text, which Python 2 allowed.
    _stub("cPickle", load=lambda file: opened(getattr(file, "buffer", file)))
    _stub("torch._six", string_classes=str)
    _stub("tools.compute_softscore")  # answers of Visual Genome
    is_adaptive = "ban" in code.name
    root = place.parent
    number = "" if is_adaptive else "36"
    place.rename(root / f"val{number}.hdf5")
    (root / f"{place.stem}_imgid2idx.pkl").rename(root / f"val{number}_imgid2idx.pkl")
    questions = [
        {"question_id": n, "image_id": int(image_id), "question": "what"}
        for n, image_id in enumerate(output.image_ids)
    ]
    name = "v2_OpenEnded_mscoco_val2014_questions.json"
    (root / name).write_text(json.dumps({"questions": questions}))
    (root / "cache").mkdir()
    answers = [{**question, "labels": [0], "scores": [1.0]} for question in questions]
    for key, value in {
        "trainval_ans2label": {"yes": 0},
        "trainval_label2ans": ["yes"],
        "val_target": answers,
    }.items():
        (root / "cache" / f"{key}.pkl").write_bytes(pickle.dumps(value))
    sys.path.insert(0, str(code))
    module = importlib.import_module("dataset")
    dictionary = module.Dictionary({"what": 0}, ["what"])
    more = {"adaptive": True} if is_adaptive else {}
    dataset = module.VQAFeatureDataset("val", dictionary, str(root), **more)
    for n, image_id in enumerate(output.image_ids):
        features, spatial, _, _ = dataset[n]
        boxes = _pixels(spatial.numpy(), _size(output, image_id))
        yield image_id, (features.numpy(), boxes)


def read_hf(_code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    datasets = importlib.import_module("datasets")
    loaded = datasets.load_dataset(str(place), cache_dir=str(place.parent / "cache"))
    for split in loaded.values():
        names = split.features["obj_ids"].feature
        for row in split.with_format("numpy"):
            expected = output[row["image_id"]]
            assert expected.obj_ids is not None
            words = [output.obj_names[i] for i in expected.obj_ids]
            if hasattr(names, "int2str"):
                assert names.int2str(list(row["obj_ids"])) == words
            yield row["image_id"], (row["visual_feats"], row["boxes"])


def read_webdataset(_code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    webdataset = importlib.import_module("webdataset")
    paths = sorted(map(str, place.glob("*.tar")))
    for sample in webdataset.WebDataset(paths, shardshuffle=False).decode():
        arrays = sample["npz"]
        yield sample["__key__"], (arrays["visual_feats"], arrays["boxes"])


def read_coco(_code: Path, place: Path, output: RegionOutput) -> Iterator[tuple[str, Arrays]]:
    coco = importlib.import_module("pycocotools.coco")
    truth = coco.COCO(str(place / "instances.json"))
    results = truth.loadRes(str(place / "results.json"))
    for image_id in output.image_ids:
        for found in (truth, results):
            items = found.loadAnns(found.getAnnIds([int(image_id)]))
            boxes = np.array([item["bbox"] for item in items])
            boxes[:, 2:] += boxes[:, :2]
            yield image_id, (output[image_id].visual_feats, boxes.astype(np.float32))


FORMS: dict[str, tuple[str, str, str, Read]] = {
    # form and project: the form, the project's folder, the name of OUT, the reader
    "tsv10, LXMERT": ("tsv10", "airsplay+lxmert", "out.tsv", read_tsv10),
    "tsv6, make_bu_data.py": ("tsv6", "ruotianluo+self-critical.pytorch", "out.tsv", read_tsv6),
    "cocobu, self-critical": ("cocobu", "ruotianluo+self-critical.pytorch", "out", read_cocobu),
    "cocobu, xmodaler": ("cocobu", "YehLi+xmodaler", "out", read_cocobu_xmodaler),
    "m2-hdf5, M2": ("m2-hdf5", "aimagelab+meshed-memory-transformer", "out.hdf5", read_m2),
    "hdf5, VOLTA": ("hdf5", "e-bug+volta", "out.h5", read_volta_hdf5),
    "lmdb-volta, VOLTA": ("lmdb-volta", "e-bug+volta", "out.lmdb", read_volta),
    "lmdb-uniter, UNITER": ("lmdb-uniter", "ChenRocks+UNITER", "out", read_uniter),
    "uniter-npz, UNITER": ("uniter-npz", "ChenRocks+UNITER", "out", read_uniter_npz),
    "mmf, MMF": ("mmf", "facebookresearch+mmf", "out", read_mmf),
    "lmdb-mmf, MMF": ("lmdb-mmf", "facebookresearch+mmf", "out.lmdb", read_mmf),
    "grid-pth, MMF": ("grid-pth", "facebookresearch+mmf", "out", read_mmf_grid),
    "mcan, MCAN": ("mcan", "MILVLG+mcan-vqa", "out", read_mcan),
    "mcan, openvqa": ("mcan", "MILVLG+openvqa", "out", read_openvqa),
    "openvqa, openvqa": ("openvqa", "MILVLG+openvqa", "out", read_openvqa_gqa),
    "butd-hdf5, BUTD-VQA": (
        *("butd-hdf5", "hengyuan-hu+bottom-up-attention-vqa", "out.hdf5"),
        read_butd,
    ),
    "butd-hdf5, BAN": ("butd-hdf5", "jnhwkim+ban-vqa", "out.hdf5", read_butd),
    "hf, datasets": ("hf", "", "out", read_hf),
    "webdataset, webdataset": ("webdataset", "", "out", read_webdataset),
    "coco-json, pycocotools": ("coco-json", "", "out", read_coco),
}


def main() -> None:
    """Export, read back in a process for each form, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--code", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--form", choices=FORMS, help="only this form, in this process")
    parser.add_argument("--verbose", action="store_true", help="what the loaders print")
    args = parser.parse_args()
    if args.form:
        print(_check(args.form, args.code.resolve()))
        return
    print_header("the users' own loaders on ten published images", sys.argv)
    rows, failed = [], []
    for name, (_, folder, _, _) in FORMS.items():
        if folder and not (args.code / folder).is_dir():
            rows.append((name, f"skipped: no {folder} in {args.code}"))
            continue
        command = [sys.executable, "-m", "tests.benchmarks.consumers", "--code", str(args.code)]
        done = subprocess.run(
            [*command, "--form", name], capture_output=True, text=True, check=False
        )
        lines = (done.stdout if not done.returncode else done.stderr).strip().splitlines()
        if args.verbose or done.returncode:
            print(done.stdout, done.stderr, sep="\n")
        failed += [name] if done.returncode else []
        rows.append((name, ("FAILED: " if done.returncode else "") + (lines or ["nothing"])[-1]))
    print_table(["form and project", ""], rows)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _check(name: str, code: Path) -> str:
    form, folder, out, read = FORMS[name]
    csv.field_size_limit(sys.maxsize)
    with tempfile.TemporaryDirectory(prefix="vlray-consumers-") as work:
        source = Path(work) / "output"
        import_file(
            ConvertConfig(
                source=str(PUBLISHED), output=str(source), id_rule="coco", dtype="float32"
            )
        )
        output = open_output(str(source))
        if form == "grid-pth":
            output = _as_grids(output, Path(work) / "grids-of-regions")
        elif name.endswith("BAN"):
            output = _uneven(output, Path(work) / "uneven")
        place = Path(work) / "written" / out
        place.parent.mkdir()
        export_output(ConvertConfig(source=output.path, output=str(place), format=form))
        seen, with_boxes = [], True
        for image_id, (features, boxes) in read(code / folder, place, output):
            expected = output[image_id]
            np.testing.assert_array_equal(features, expected.visual_feats)
            if boxes is None:
                with_boxes = False
            elif name.partition(",")[0] in FRACTIONS or name.endswith("openvqa"):
                np.testing.assert_allclose(boxes, expected.boxes, atol=0.02)
            else:
                np.testing.assert_array_equal(boxes, expected.boxes)
            seen.append(image_id)
        assert set(seen) == set(output.image_ids), "images are missing"
    what = "features and boxes" if with_boxes else "features"
    return f"{len(set(seen))} images, {what} equal"


FRACTIONS = ("lmdb-uniter", "uniter-npz", "butd-hdf5", "openvqa")
"""Forms whose loaders have boxes as fractions of the image; equal to 0.02 pixels."""


def _rewrite(
    output: RegionOutput, folder: Path, change: Callable[[int, RegionBatch], RegionBatch]
) -> RegionOutput:
    """Write an output with changed regions."""
    from tests.fixtures.made_up import write_output

    images = {i: change(n, output[i]) for n, i in enumerate(output.image_ids)}
    return open_output(str(write_output(folder, images, "float32")))


def _as_grids(output: RegionOutput, folder: Path) -> RegionOutput:
    def change(_: int, regions: RegionBatch) -> RegionBatch:
        height, width = regions.image_hw[0].tolist()
        y, x = (np.linspace(0, side, 7, dtype=np.float32) for side in (height, width))
        boxes = [[x[c], y[r], x[c + 1], y[r + 1]] for r in range(6) for c in range(6)]
        return RegionBatch(
            regions.image_hw,
            regions.num_boxes,
            np.array(boxes, np.float32),
            regions.visual_feats,
        )

    return _rewrite(output, folder, change)


def _uneven(output: RegionOutput, folder: Path) -> RegionOutput:
    def change(number: int, regions: RegionBatch) -> RegionBatch:
        count = COUNT - number
        return RegionBatch(
            regions.image_hw,
            np.array([count], np.int32),
            regions.boxes[:count],
            regions.visual_feats[:count],
        )

    return _rewrite(output, folder, change)


if __name__ == "__main__":
    main()
