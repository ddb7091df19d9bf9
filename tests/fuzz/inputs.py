"""Valid inputs of every reader, each with the command that reads it."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from PIL import Image as Picture

from tests.fixtures import made_up
from tests.fixtures.random_outputs import write_output
from tests.formats import written, written_text
from tests.fuzz.mutate import mutate
from vlray import compare, convert, datasets, env, extract, pipeline, view
from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output

GRID = Path(__file__).parents[1] / "stream" / "grid_detector.py"
EXTRACT = ["--detector.name", f"{GRID}:GridDetector", "--cluster.address", "none"]


@dataclass(frozen=True)
class Input:
    """A valid input.

    Attributes:
        name: Name in the report.
        write: Writes the input into an empty folder.
        main: Command that reads it.
        argv: Its arguments, relative to the folder.
        damaged: Pattern of the files that are damaged, one at a time.
    """

    name: str
    write: Callable[[Path], None]
    main: Callable[[list[str]], None]
    argv: tuple[str, ...]
    damaged: str

    def damage(self, valid: Path, folder: Path, random: Random) -> str:
        """Copy the input, and damage one of its files; return the file's name."""
        shutil.copytree(valid, folder)
        path = random.choice(sorted(p for p in folder.rglob(self.damaged) if p.is_file()))
        path.write_bytes(mutate(path.read_bytes(), random))
        return str(path.relative_to(folder))


def _extract(argv: list[str]) -> None:
    """Extract with the detector in this process: a process of its own costs seconds a case."""
    from vlray.stream import stages

    stages.is_own = lambda options: False
    extract.main(argv)


def _tsv10(folder: Path) -> None:
    lines = [written_text.Image(f"i{n}").tsv10() for n in range(4)]
    written_text.write(folder / "in.tsv", lines)


def _tsv6(folder: Path) -> None:
    written_text.write(folder / "in.tsv", [written_text.Image(f"i{n}").tsv6() for n in range(4)])


def _vinvl(folder: Path) -> None:
    lines = [written_text.Image(f"i{n}").vinvl(["cat", "dog"], ["red"]) for n in range(4)]
    written_text.write(folder / "predictions.tsv", lines)
    _sizes(folder, [f"i{n}" for n in range(4)])


def _sizes(folder: Path, ids: list[str]) -> None:
    lines = [f"{image_id},480,640\n" for image_id in ids]
    (folder / "sizes.csv").write_text("".join(["id,height,width\n", *lines]))


def _labelled(folder: Path) -> None:
    _tsv10(folder)
    (folder / "objects.txt").write_text("".join(f"object {n}\n" for n in range(1600)))
    (folder / "attributes.txt").write_text("".join(f"attribute {n}\n" for n in range(400)))


def _npz(write: Callable[[Path, written.Image], Path]) -> Callable[[Path], None]:
    def write_all(folder: Path) -> None:
        (folder / "in").mkdir()
        for image in written.some_images(3):
            write(folder / "in", image)

    return write_all


def _npy(folder: Path) -> None:
    (folder / "in").mkdir()
    for image in written.some_images(3):
        written.save_npy(folder / "in", image, written.mmf_frcnn(image, len(image.boxes)))
    _sizes(folder, [image.image_id for image in written.some_images(3)])


def _lmdb(folder: Path) -> None:
    images = written.some_images(3)
    items = {image.image_id: written.volta_of_tsv(image) for image in images}
    written.save_lmdb(folder / "in.lmdb", items)


def _hdf5(folder: Path) -> None:
    written.hdf5_volta(folder / "in.h5", written.some_images(3))


def _butd(folder: Path) -> None:
    written.hdf5_butd(folder / "train36.hdf5", written.some_images(3, regions=4), False)


def _arrow(folder: Path) -> None:
    written.save_stream(folder / "in.arrow", written.vltk_table(written.some_images(3)))
    _sizes(folder, [image.image_id for image in written.some_images(3)])


def _written(form: str, name: str) -> Callable[[Path], None]:
    """Return what writes a form by its own writer."""

    def write(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            images = {str(n): made_up.image(n, n + 1) for n in range(3)}
            if form == "grid-pth":
                images = {"0": made_up.image(0, 1)}  # one cell
            source = made_up.write_output(Path(elsewhere) / "output", images)
            place = str(folder / name)
            export_output(ConvertConfig(source=str(source), output=place, format=form))
        (folder / f"{name}.vlray.json").unlink()
        _sizes(folder, list(images))

    return write


def _compressed(folder: Path) -> None:
    _tsv10(folder)
    data = (folder / "in.tsv").read_bytes()
    (folder / "in.tsv").write_bytes(gzip.compress(data, mtime=0))


def _chunk(folder: Path) -> None:
    images = written.some_images(3)
    values = {
        f"{image.image_id}.jpg.npz": tuple(
            torch.from_numpy(array) for array in (image.features, image.boxes, image.obj_probs)
        )
        for image in images
    }
    torch.save(values, folder / "in.th")
    _sizes(folder, [image.image_id for image in images])


def _visdial(folder: Path) -> None:
    images = written.some_images(3, regions=4)
    with h5py.File(folder / "in.h5", "w") as file:
        file["image_ids"] = np.arange(len(images))
        for name, values in {
            "features": [image.features for image in images],
            "boxes": [image.boxes for image in images],
            "classes": [image.obj_ids + 1 for image in images],
            "scores": [image.obj_probs for image in images],
        }.items():
            file[name] = np.stack(values)
    _sizes(folder, [str(number) for number in range(len(images))])


def _output(folder: Path) -> None:
    write_output(str(folder / "out"), [f"i{n}" for n in range(7)])


def _photos(folder: Path) -> None:
    (folder / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    picture = Picture.fromarray(noise).resize((96, 72))
    for name in ("a.jpg", "b.png", "c.webp", "d.gif", "e.bmp", "f.tiff"):
        picture.save(folder / "photos" / name)


def _boxes(folder: Path) -> None:
    _photos(folder)
    names = ["a", "b", "c", "d", "e", "f"]
    boxes = [[1.0, 2.0, 40.0, 50.0], [0.0, 0.0, 90.0, 70.0]]
    rows = pa.table({"image_id": names, "boxes": [boxes] * 6})
    pq.write_table(rows, folder / "boxes.parquet")
    flat = pa.table({"image_id": names} | {c: [1.0 + i] * 6 for i, c in enumerate(("x1", "y1"))})
    flat = flat.append_column("x2", pa.array([50.0] * 6)).append_column("y2", pa.array([60.0] * 6))
    pa.csv.write_csv(flat, folder / "boxes.csv")
    lines = [json.dumps({"image_id": name, "boxes": boxes}) + "\n" for name in names]
    (folder / "boxes.jsonl").write_text("".join(lines))
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate(names)]
    annotations = [{"id": n, "image_id": n, "bbox": [1, 2, 30, 40]} for n in range(6)]
    coco = {"images": images, "annotations": annotations}
    (folder / "boxes.json").write_text(json.dumps(coco))


def _settings(folder: Path) -> None:
    _photos(folder)
    (folder / "settings.yaml").write_text(
        "detector:\n  min_boxes: 3\n  max_boxes: 9\n  options: {seconds: 0}\n"
        "output: {dtype: float16, shard_size: 4}\nsplit: [all]\nenv: {log_level: info}\n"
    )


def _pipeline(folder: Path) -> None:
    (folder / "steps.yaml").write_text(
        "project: small\nvalues: {photos: photos}\nsteps:\n"
        "  regions: {command: extract, images: {root: $photos}}\n"
        "  page: {command: view, output: $regions}\n"
    )
    (folder / "photos").mkdir()


def _vqa_rad(folder: Path) -> None:
    (folder / "data").mkdir()
    entry = {"image_name": "a.jpg", "answer_type": "CLOSED", "phrase_type": "freeform"}
    entry |= {"image_organ": "HEAD", "question_type": "PRES", "question": "Is it red?"}
    entries = [entry | {"qid": n, "answer": "yes" if n % 2 else 7} for n in range(9)]
    for name in ("trainset.json", "testset.json"):
        (folder / "data" / name).write_text(json.dumps(entries))


def _predictions(folder: Path) -> None:
    _vqa_rad(folder)
    answers = [{"question_id": n, "answer": "yes"} for n in range(9)]
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "answers.csv").write_text("".join(f"{n},yes\n" for n in range(9)))


def _nlvr2(folder: Path) -> None:
    (folder / "data").mkdir()
    line = {"synset": "a", "query": "b", "sentence": "Two dogs.", "left_url": "", "right_url": ""}
    lines = [line | {"identifier": f"dev-{n}-0-0", "label": "True"} for n in range(9)]
    (folder / "data" / "dev.json").write_text("".join(json.dumps(one) + "\n" for one in lines))


def _home(folder: Path) -> None:
    (folder / "settings.yaml").write_text(
        "project: mine\nmodels: {own: file.py:Own}\ndetector: {max_boxes: 9}\n"
    )


def _convert(name: str, write: Callable[[Path], None], source: str, *flags: str) -> Input:
    pattern = "*.mdb" if source.endswith(".lmdb") else "*"
    return Input(f"convert {name}", write, convert.main, (source, "new", *flags), pattern)


VQA = ("--data.annotations", "vqa-rad=data")
SIZES = ("--sizes", "sizes.csv")
INPUTS = (
    _convert("tsv10", _tsv10, "in.tsv"),
    _convert("tsv6", _tsv6, "in.tsv"),
    _convert("vinvl", _vinvl, "predictions.tsv", *SIZES),
    _convert("labels", _labelled, "in.tsv", "--labels", "objects.txt,attributes.txt"),
    _convert("npz caffe", _npz(written.npz_caffe), "in", "--trust-pickle"),
    _convert("npz boxes", _npz(written.npz_boxes), "in"),
    _convert("npz mcan", _npz(written.npz_mcan), "in"),
    _convert("mmf", _npy, "in", "--trust-pickle", *SIZES),
    _convert("lmdb", _lmdb, "in.lmdb", "--trust-pickle"),
    _convert("hdf5", _hdf5, "in.h5"),
    _convert("butd", _butd, "train36.hdf5", "--trust-pickle"),
    _convert("arrow", _arrow, "in.arrow", *SIZES),
    _convert("gzip", _compressed, "in.tsv"),
    *(
        _convert(form, _written(form, "in"), "in", *SIZES)
        for form in ("cocobu", "uniter-npz", "m2-hdf5", "grid-pth", "coco-json", "webdataset", "hf")
    ),
    _convert("lmdb-uniter", _written("lmdb-uniter", "in.lmdb"), "in.lmdb", *SIZES),
    _convert("visualbert-th", _chunk, "in.th", *SIZES),
    _convert("visdial-hdf5", _visdial, "in.h5", *SIZES),
    Input("export", _output, convert.main, ("out", "new.tsv"), "*"),
    Input("view", _output, view.main, ("out",), "*"),
    Input("compare", _output, compare.main, ("out", "out"), "*"),
    Input("extract", _photos, _extract, ("photos", "new", *EXTRACT), "*.*"),
    *(
        Input(
            f"boxes {end}",
            _boxes,
            _extract,
            ("photos", "new", "--boxes", f"boxes.{end}", *EXTRACT),
            f"boxes.{end}",
        )
        for end in ("parquet", "csv", "jsonl", "json")
    ),
    Input(
        "settings",
        _settings,
        _extract,
        ("photos", "new", *EXTRACT, "--config", "settings.yaml"),
        "*.yaml",
    ),
    Input("pipeline", _pipeline, pipeline.main, ("steps.yaml", "--dry-run"), "*.yaml"),
    Input("check vqa-rad", _vqa_rad, datasets.main, ("check", "vqa-rad:train", *VQA), "train*"),
    Input(
        "check nlvr2",
        _nlvr2,
        datasets.main,
        ("check", "nlvr2:dev", "--data.annotations", "nlvr2=data"),
        "dev*",
    ),
    *(
        Input(
            f"score {end}",
            _predictions,
            datasets.main,
            ("score", "vqa-rad:test", f"answers.{end}", *VQA),
            f"answers.{end}",
        )
        for end in ("json", "csv")
    ),
    Input("env", _home, env.main, ("show",), "*.yaml"),
)
